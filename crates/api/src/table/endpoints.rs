//! Endpoints and EndpointSlices.

use serde_json::{Value, json};

use super::{Column, Printer, age, capped, integer, list, name, text};

/// How many addresses or ports are shown.
const SHOWN: usize = 3;

pub(super) const ENDPOINTS: Printer = Printer {
    columns: &[Column::NAME, Column::text("Endpoints"), Column::AGE],
    cells: |object, now| vec![name(object), json!(subsets(object)), age(object, now)],
};

pub(super) const SLICES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("AddressType"),
        Column::text("Ports"),
        Column::text("Endpoints"),
        Column::AGE,
    ],
    cells: |object, now| {
        vec![
            name(object),
            text(object, "/addressType").into(),
            json!(ports(object)),
            json!(addresses(object)),
            age(object, now),
        ]
    },
};

fn subsets(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(object, "/subsets") {
        let ips = list(subset, "/addresses")
            .iter()
            .map(|address| text(address, "/ip"));
        match list(subset, "/ports") {
            [] => all.extend(ips.map(str::to_owned)),
            ports => {
                let ips: Vec<&str> = ips.collect();
                all.extend(
                    ports.iter().flat_map(|port| {
                        ips.iter().map(move |ip| joined(ip, integer(port, "/port")))
                    }),
                );
            }
        }
    }
    if all.is_empty() {
        "<none>".to_owned()
    } else {
        capped(&all, SHOWN)
    }
}

fn joined(ip: &str, port: i64) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

fn ports(object: &Value) -> String {
    let all: Vec<String> = list(object, "/ports")
        .iter()
        .map(|port| {
            match (
                port.pointer("/port").and_then(Value::as_i64),
                text(port, "/name"),
            ) {
                (Some(number), _) => number.to_string(),
                (None, "") => "*".to_owned(),
                (None, name) => name.to_owned(),
            }
        })
        .collect();
    if all.is_empty() {
        "<unset>".to_owned()
    } else {
        capped(&all, SHOWN)
    }
}

fn addresses(object: &Value) -> String {
    let of_endpoint = |endpoint| {
        list(endpoint, "/addresses")
            .iter()
            .filter_map(|address| address.as_str().map(str::to_owned))
    };
    let all: Vec<String> = list(object, "/endpoints")
        .iter()
        .flat_map(of_endpoint)
        .collect();
    if all.is_empty() {
        "<unset>".to_owned()
    } else {
        capped(&all, SHOWN)
    }
}
