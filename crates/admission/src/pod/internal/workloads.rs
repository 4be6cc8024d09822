//! Structures of groups apps and batch.

use super::Layout;
use super::Shape::{Int, IntOrString, Pointer, Slice, Struct, Text};

pub(super) const STRATEGY: Layout = &[
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

pub(super) const STATEFUL_SET_STRATEGY: Layout = &[
    ("Type", "type", Text),
    (
        "RollingUpdate",
        "rollingUpdate",
        Pointer(&Struct(STATEFUL_SET_ROLLING)),
    ),
];

pub(super) const STATEFUL_SET_ROLLING: Layout = &[
    ("Partition", "partition", Int),
    ("MaxUnavailable", "maxUnavailable", Pointer(&IntOrString)),
];

pub(super) const POD_FAILURE_POLICY: Layout = &[("Rules", "rules", Slice(&Struct(FAILURE_RULE)))];

const FAILURE_RULE: Layout = &[
    ("Action", "action", Text),
    ("OnExitCodes", "onExitCodes", Pointer(&Struct(EXIT_CODES))),
    (
        "OnPodConditions",
        "onPodConditions",
        Slice(&Struct(POD_CONDITION)),
    ),
];

const EXIT_CODES: Layout = &[
    ("ContainerName", "containerName", Pointer(&Text)),
    ("Operator", "operator", Text),
    ("Values", "values", Slice(&Int)),
];

const POD_CONDITION: Layout = &[("Type", "type", Text), ("Status", "status", Text)];

pub(super) const SUCCESS_POLICY: Layout = &[("Rules", "rules", Slice(&Struct(SUCCESS_RULE)))];

const SUCCESS_RULE: Layout = &[
    ("SucceededIndexes", "succeededIndexes", Pointer(&Text)),
    ("SucceededCount", "succeededCount", Pointer(&Int)),
];

pub(super) const UNCOUNTED_PODS: Layout = &[
    ("Succeeded", "succeeded", Slice(&Text)),
    ("Failed", "failed", Slice(&Text)),
];
