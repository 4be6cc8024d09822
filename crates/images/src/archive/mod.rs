//! Images in files: `docker save` archives, OCI image layouts, and bare root file systems.

mod import;
mod load;
mod save;
