//! The Pods, and what is supposed about their containers: the programs do what the flags say.
//!
//! Every supposition is a second or so away from the next happening, so that a busy machine changes no order.

/// Everything runs from it.
pub(crate) const IMAGE: &str = "docker.io/library/busybox:1.36";

/// A Pod to predict and to run.
pub(crate) struct Case {
    /// Its name, and the Pod's.
    pub(crate) name: &'static str,
    /// Flags of `carob plan`.
    pub(crate) supposed: &'static [&'static str],
    /// Its spec in YAML, with `IMAGE` for the image and programs in braces (see [`PROGRAMS`]).
    spec: &'static str,
}

/// Programs by name. `SERVE` runs on and ends with 0 when asked to, `SERVE_AS` with what follows; `END` takes seconds and an exit code; `RUNS` its own name
/// and the exit code of each run, each a second long.
const PROGRAMS: [(&str, &str); 6] = [
    (
        "SERVE_AS",
        "[sh, -c, 'trap \"exit $0\" TERM; sleep 3600 & wait', ",
    ),
    (
        "SERVE",
        "[sh, -c, 'trap \"exit 0\" TERM; sleep 3600 & wait']",
    ),
    ("DEAF", "[sleep, '3600']"),
    ("END", "[sh, -c, 'sleep $0; exit $1', "),
    // The exit code of each run, from a file that outlives it.
    (
        "RUNS",
        "[sh, -c, 'n=$(cat /d/$0 2>/dev/null || echo 1); echo $((n+1)) >/d/$0; sleep 1; shift $((n-1)); exit $1', ",
    ),
    ("IMAGE", IMAGE),
];

impl Case {
    /// The Pod in YAML.
    pub(crate) fn manifest(&self) -> String {
        let mut spec = self.spec.replace('\n', "\n  ");
        for (name, program) in PROGRAMS {
            spec = spec.replace(name, program);
        }
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {}}}\nspec:\n  automountServiceAccountToken: false{spec}\n",
            self.name
        )
    }
}

/// The Pods.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "completes",
        supposed: &[],
        spec: "
restartPolicy: Never
containers:
- {name: app, image: IMAGE, command: END '1', '0']}",
    },
    Case {
        name: "fails",
        supposed: &["--exit", "app=3"],
        spec: "
restartPolicy: Never
containers:
- {name: app, image: IMAGE, command: END '1', '3']}",
    },
    Case {
        name: "succeeds-again",
        supposed: &["--exit", "app=1,0"],
        spec: "
restartPolicy: OnFailure
containers:
- {name: app, image: IMAGE, command: RUNS app, '1', '0'], volumeMounts: [{name: d, mountPath: /d}]}
volumes: [{name: d, emptyDir: {}}]",
    },
    Case {
        name: "crash-loop",
        supposed: &["--exit", "app=1", "--until", "12500ms"],
        spec: "
restartPolicy: Always
containers:
- {name: app, image: IMAGE, command: END '1', '1']}",
    },
    Case {
        name: "done-again-and-again",
        supposed: &["--exit", "app=0", "--until", "12500ms"],
        spec: "
restartPolicy: Always
containers:
- {name: app, image: IMAGE, command: END '1', '0']}",
    },
    Case {
        name: "two-ends",
        supposed: &["--exit", "b=1", "--delay", "b=2500ms"],
        spec: "
restartPolicy: Never
containers:
- {name: a, image: IMAGE, command: END '1', '0']}
- {name: b, image: IMAGE, command: END '2.5', '1']}",
    },
    Case {
        name: "one-goes-on",
        supposed: &["--exit", "b=runs", "--until", "5s"],
        spec: "
restartPolicy: OnFailure
containers:
- {name: a, image: IMAGE, command: END '1', '0']}
- {name: b, image: IMAGE, command: SERVE}",
    },
    Case {
        name: "three-inits",
        supposed: &[],
        spec: "
restartPolicy: Never
initContainers:
- {name: one, image: IMAGE, command: END '1', '0']}
- {name: two, image: IMAGE, command: END '1', '0']}
- {name: three, image: IMAGE, command: END '1', '0']}
containers:
- {name: app, image: IMAGE, command: END '1', '0']}",
    },
    Case {
        name: "init-fails-never",
        supposed: &["--exit", "two=4"],
        spec: "
restartPolicy: Never
initContainers:
- {name: one, image: IMAGE, command: END '1', '0']}
- {name: two, image: IMAGE, command: END '1', '4']}
containers:
- {name: app, image: IMAGE, command: SERVE}",
    },
    Case {
        name: "init-fails-once",
        supposed: &["--exit", "init=1,0"],
        spec: "
restartPolicy: OnFailure
initContainers:
- {name: init, image: IMAGE, command: RUNS init, '1', '0'], volumeMounts: [{name: d, mountPath: /d}]}
containers:
- {name: app, image: IMAGE, command: END '1', '0']}
volumes: [{name: d, emptyDir: {}}]",
    },
    Case {
        name: "init-crash-loop",
        supposed: &["--exit", "init=1,1,0", "--until", "15s"],
        spec: "
initContainers:
- {name: init, image: IMAGE, command: RUNS init, '1', '1', '0'], volumeMounts: [{name: d, mountPath: /d}]}
containers:
- {name: app, image: IMAGE, command: SERVE}
volumes: [{name: d, emptyDir: {}}]",
    },
    Case {
        name: "sidecar-ends-after",
        supposed: &[],
        spec: "
restartPolicy: Never
initContainers:
- {name: side, image: IMAGE, command: SERVE, restartPolicy: Always}
containers:
- {name: app, image: IMAGE, command: END '2', '0']}",
    },
    Case {
        name: "sidecar-is-killed",
        supposed: &["--stop", "side=ignore"],
        spec: "
restartPolicy: Never
terminationGracePeriodSeconds: 2
initContainers:
- {name: side, image: IMAGE, command: DEAF, restartPolicy: Always}
containers:
- {name: app, image: IMAGE, command: END '1', '0']}",
    },
    Case {
        name: "sidecar-ends-badly",
        supposed: &["--stop", "side=7", "--exit", "app=2"],
        spec: "
restartPolicy: Never
initContainers:
- {name: side, image: IMAGE, command: SERVE_AS '7'], restartPolicy: Always}
containers:
- {name: app, image: IMAGE, command: END '1', '2']}",
    },
    Case {
        name: "sidecar-crashes",
        supposed: &["--exit", "side=5,runs", "--delay", "side=2s", "--until", "5s"],
        spec: "
initContainers:
- {name: side, image: IMAGE, command: [sh, -c, 'if [ -e /d/x ]; then sleep 3600; fi; touch /d/x; sleep 2; exit 5'], restartPolicy: Always, volumeMounts: [{name: d, mountPath: /d}]}
containers:
- {name: app, image: IMAGE, command: SERVE}
volumes: [{name: d, emptyDir: {}}]",
    },
    Case {
        name: "sidecar-gates",
        supposed: &["--delay", "side=1500ms", "--exit", "app=0"],
        spec: r#"
restartPolicy: Never
initContainers:
- {name: side, image: IMAGE, command: [sh, -c, 'trap "exit 0" TERM; sleep 1.5; touch /tmp/up; sleep 3600 & wait'], restartPolicy: Always, startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 30}}
containers:
- {name: app, image: IMAGE, command: END '1', '0']}"#,
    },
    Case {
        name: "sidecars-end-in-reverse",
        supposed: &["--delay", "app=2s"],
        spec: "
restartPolicy: Never
initContainers:
- {name: one, image: IMAGE, command: SERVE, restartPolicy: Always}
- {name: init, image: IMAGE, command: END '1', '0']}
- {name: two, image: IMAGE, command: SERVE, restartPolicy: Always}
containers:
- {name: app, image: IMAGE, command: END '2', '0']}",
    },
    Case {
        name: "sidecar-in-the-midst-fails",
        supposed: &["--exit", "init=9"],
        spec: "
restartPolicy: Never
initContainers:
- {name: one, image: IMAGE, command: SERVE, restartPolicy: Always}
- {name: init, image: IMAGE, command: END '1', '9']}
- {name: two, image: IMAGE, command: SERVE, restartPolicy: Always}
containers:
- {name: app, image: IMAGE, command: SERVE}",
    },
    Case {
        name: "becomes-ready",
        supposed: &["--exit", "app=0", "--delay", "app=4500ms", "--probe", "app=ok@1500ms"],
        spec: "
restartPolicy: Never
containers:
- {name: app, image: IMAGE, command: [sh, -c, 'sleep 1.5; touch /tmp/up; sleep 3'], readinessProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 3}}",
    },
    Case {
        name: "is-ready-for-a-while",
        supposed: &["--probe", "app=ok@1500ms,fail@4500ms", "--until", "8s"],
        spec: "
containers:
- {name: app, image: IMAGE, command: [sh, -c, 'sleep 1.5; touch /tmp/up; sleep 3; rm /tmp/up; sleep 3600'], readinessProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}}",
    },
    Case {
        name: "liveness-restarts",
        supposed: &["--probe", "app=fail@1500ms", "--until", "3500ms"],
        spec: r#"
containers:
- {name: app, image: IMAGE, command: [sh, -c, 'trap "exit 0" TERM; sleep 1.5; touch /tmp/bad; sleep 3600 & wait'], livenessProbe: {exec: {command: [sh, -c, '! test -e /tmp/bad']}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}}"#,
    },
    Case {
        name: "liveness-loops",
        supposed: &["--probe", "app=fail@1500ms", "--until", "13500ms"],
        spec: r#"
containers:
- {name: app, image: IMAGE, command: [sh, -c, 'trap "exit 0" TERM; sleep 1.5; touch /tmp/bad; sleep 3600 & wait'], livenessProbe: {exec: {command: [sh, -c, '! test -e /tmp/bad']}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}}"#,
    },
    Case {
        name: "liveness-ends-never",
        supposed: &["--exit", "app=runs", "--probe", "app=fail@1500ms", "--stop", "app=3"],
        spec: r#"
restartPolicy: Never
containers:
- {name: app, image: IMAGE, command: [sh, -c, 'trap "exit 3" TERM; sleep 1.5; touch /tmp/bad; sleep 3600 & wait'], livenessProbe: {exec: {command: [sh, -c, '! test -e /tmp/bad']}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}}"#,
    },
    Case {
        name: "startup-fails",
        supposed: &["--probe", "app=fail", "--until", "3s"],
        spec: "
containers:
- {name: app, image: IMAGE, command: SERVE, startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2}}",
    },
    Case {
        name: "startup-then-ready",
        supposed: &["--delay", "app=1500ms", "--until", "5s"],
        spec: r#"
containers:
- {name: app, image: IMAGE, command: [sh, -c, 'trap "exit 0" TERM; sleep 1.5; touch /tmp/up; sleep 3600 & wait'], startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 30}, readinessProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 10}}"#,
    },
    Case {
        name: "sidecar-is-probed",
        supposed: &["--probe", "side=fail@2500ms", "--delay", "app=4500ms", "--exit", "app=0"],
        spec: r#"
restartPolicy: Never
initContainers:
- {name: side, image: IMAGE, command: [sh, -c, 'trap "exit 0" TERM; sleep 2.5; touch /tmp/bad; sleep 3600 & wait'], restartPolicy: Always, livenessProbe: {exec: {command: [sh, -c, '! test -e /tmp/bad']}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}}
containers:
- {name: app, image: IMAGE, command: END '4.5', '0']}"#,
    },
    Case {
        name: "prestop-sleeps",
        supposed: &[],
        spec: "
restartPolicy: Never
initContainers:
- {name: side, image: IMAGE, command: SERVE, restartPolicy: Always, lifecycle: {preStop: {sleep: {seconds: 2}}}}
containers:
- {name: app, image: IMAGE, command: END '1', '0']}",
    },
    Case {
        name: "prestop-runs",
        supposed: &[],
        spec: "
restartPolicy: Never
initContainers:
- {name: one, image: IMAGE, command: SERVE, restartPolicy: Always, lifecycle: {preStop: {exec: {command: ['true']}}}}
- {name: two, image: IMAGE, command: SERVE, restartPolicy: Always}
containers:
- {name: app, image: IMAGE, command: END '1', '0']}",
    },
    Case {
        name: "poststart-sleeps",
        supposed: &["--delay", "app=3s"],
        spec: "
restartPolicy: Never
containers:
- {name: app, image: IMAGE, command: END '3', '0'], lifecycle: {postStart: {sleep: {seconds: 1}}}}",
    },
    Case {
        name: "poststart-holds-up",
        supposed: &["--delay", "a=4s", "--delay", "b=1s", "--exit", "a=0"],
        spec: "
restartPolicy: Never
containers:
- {name: a, image: IMAGE, command: END '4', '0'], lifecycle: {postStart: {sleep: {seconds: 2}}}}
- {name: b, image: IMAGE, command: END '1', '0']}",
    },
    Case {
        name: "poststart-outlives",
        supposed: &[],
        spec: "
restartPolicy: Never
containers:
- {name: app, image: IMAGE, command: END '1', '0'], lifecycle: {postStart: {sleep: {seconds: 3}}}}",
    },
    Case {
        name: "deadline",
        supposed: &["--exit", "app=runs"],
        spec: "
restartPolicy: Never
activeDeadlineSeconds: 3
containers:
- {name: app, image: IMAGE, command: SERVE}",
    },
    Case {
        name: "deadline-in-init",
        supposed: &["--delay", "init=1h", "--stop", "init=6"],
        spec: "
restartPolicy: Never
activeDeadlineSeconds: 3
initContainers:
- {name: side, image: IMAGE, command: SERVE, restartPolicy: Always}
- {name: init, image: IMAGE, command: SERVE_AS '6']}
containers:
- {name: app, image: IMAGE, command: SERVE}",
    },
    Case {
        name: "own-rule",
        supposed: &["--exit", "app=42,0"],
        spec: "
restartPolicy: Never
containers:
- {name: app, image: IMAGE, command: RUNS app, '42', '0'], volumeMounts: [{name: d, mountPath: /d}], restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]}
volumes: [{name: d, emptyDir: {}}]",
    },
    Case {
        name: "own-policy",
        supposed: &["--exit", "a=1,0", "--exit", "b=1", "--delay", "b=3500ms"],
        spec: "
restartPolicy: Never
containers:
- {name: a, image: IMAGE, command: RUNS a, '1', '0'], volumeMounts: [{name: d, mountPath: /d}], restartPolicy: OnFailure}
- {name: b, image: IMAGE, command: END '3.5', '1']}
volumes: [{name: d, emptyDir: {}}]",
    },
    Case {
        name: "restarts-all",
        supposed: &["--exit", "app=42,0"],
        spec: "
restartPolicy: Never
initContainers:
- {name: init, image: IMAGE, command: END '1', '0']}
containers:
- {name: app, image: IMAGE, command: RUNS app, '42', '0'], volumeMounts: [{name: d, mountPath: /d}], restartPolicy: Never, restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [42]}}]}
volumes: [{name: d, emptyDir: {}}]",
    },
    Case {
        name: "lacks-a-config-map",
        supposed: &["--lacks", "app=config", "--until", "5s"],
        spec: "
containers:
- {name: app, image: IMAGE, command: SERVE, env: [{name: X, valueFrom: {configMapKeyRef: {name: nowhere, key: x}}}]}
- {name: other, image: IMAGE, command: SERVE}",
    },
    Case {
        name: "lacks-its-program",
        supposed: &["--lacks", "app=program"],
        spec: "
restartPolicy: Never
containers:
- {name: app, image: IMAGE, command: [/no/such/program]}",
    },
    Case {
        name: "on-the-host",
        supposed: &[],
        spec: "
restartPolicy: Never
hostNetwork: true
containers:
- {name: app, image: IMAGE, command: END '1', '0']}",
    },
    Case {
        name: "sees-the-others",
        supposed: &["--stop", "side=143"],
        spec: "
restartPolicy: Never
shareProcessNamespace: true
initContainers:
- {name: side, image: IMAGE, command: DEAF, restartPolicy: Always}
containers:
- {name: app, image: IMAGE, command: END '1', '0']}",
    },
];
