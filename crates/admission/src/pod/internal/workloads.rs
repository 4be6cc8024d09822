//! Structures of groups apps and batch.

use super::Layout;
use super::Shape::{IntOrString, Pointer, Struct, Text};

pub(super) const DEPLOYMENT_STRATEGY: Layout = &[
    ("Type", "type", Text),
    (
        "RollingUpdate",
        "rollingUpdate",
        Pointer(&Struct(ROLLING_UPDATE)),
    ),
];

const ROLLING_UPDATE: Layout = &[
    ("MaxUnavailable", "maxUnavailable", IntOrString),
    ("MaxSurge", "maxSurge", IntOrString),
];
