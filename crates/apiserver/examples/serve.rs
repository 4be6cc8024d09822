//! An API server with nothing behind it, for trying clients: `cargo run -p apiserver --example serve -- DIR`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use apiserver::{ApiServer, Config, ServiceRange};
use ports::clock::SystemClock;
use store::Store;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("usage: serve DIR")?);
    std::fs::create_dir_all(&dir)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let config = Config {
        state_dir: dir.join("pki"),
        address: listener.local_addr()?,
        advertise: None,
        extra_addresses: Vec::new(),
        service_range: ServiceRange::new(Ipv4Addr::new(10, 96, 0, 0), 16).ok_or("service range")?,
        second_service_range: None,
        name_server: None,
        cluster_domain: "cluster.local".into(),
    };
    let store = Arc::new(Store::open(&dir.join("state.db"))?);
    let server = ApiServer::new(config, store.clone(), Arc::new(SystemClock)).await?;
    server.write_kubeconfig(&dir.join("kubeconfig"))?;
    let shutdown = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            eprintln!("{error}");
        }
    };
    server.serve(listener, shutdown).await;
    store.close();
    Ok(())
}
