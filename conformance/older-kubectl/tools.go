//go:build tools

// Package olderkubectl pins a kubectl two minor versions back: users' clients are older than their server.
package olderkubectl

import _ "k8s.io/kubernetes/cmd/kubectl"
