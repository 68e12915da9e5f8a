package engine

import (
	"time"
)

// Config says where an [Engine] keeps its state and which BuildKit it uses. The
// zero value is the user's own embedded daemon and store.
type Config struct {
	// StateDir holds the embedded daemon's state and zlayer's caches; empty is
	// ZLAYER_STATE_DIR, else the user's state directory.
	StateDir string
	// StoreDir holds the image store; empty is ZLAYER_STORE_DIR, else "store"
	// below the user's data directory.
	StoreDir string

	// Addr is another BuildKit to use: unix://, tcp://, ssh://,
	// docker-container://, podman-container:// or kube-pod://. Empty is
	// BUILDKIT_HOST, else the embedded daemon.
	Addr string
	// TLS is for tcp addresses.
	TLS TLSConfig
	// NoDaemon runs BuildKit inside this process instead of in a shared
	// background daemon.
	NoDaemon bool

	// DaemonConfig is a file in the syntax of buildkitd.toml for the embedded
	// daemon; empty is buildkitd.toml in the user's zlayer config directory, if
	// it is there.
	DaemonConfig string
	// Mirrors maps a registry host to the hosts to ask first. PlainHTTP lists
	// registry hosts that speak http; Insecure those whose certificates are not
	// verified; RegistryCAs maps a host to PEM files.
	Mirrors     map[string][]string
	PlainHTTP   []string
	Insecure    []string
	RegistryCAs map[string][]string
	// MaxParallelism bounds the steps that the embedded daemon runs at one time, of all
	// builds together; 0 is what DaemonConfig says, else no bound.
	MaxParallelism int
	// Runc is the OCI runtime of the embedded daemon; empty looks for it.
	Runc string
	// IdleTimeout is how long a background daemon that we start lives without
	// work; 0 is the default.
	IdleTimeout time.Duration

	// Memo says where results of earlier builds are looked up and remembered, in the
	// form of the flag --memo: "off", "local", "registry=REPO", "s3=...", joined by +
	// or given one by one. Empty is ZLAYER_MEMO, else "local".
	Memo []string

	// DaemonCommand starts this program as a background daemon. Programs other
	// than zlayer leave it empty and call [ReexecDaemon] first thing in main.
	DaemonCommand []string
	// Debug makes the embedded daemon's log verbose.
	Debug bool
	// Version names this build of the program; a daemon of another version is
	// replaced or left alone, never used.
	Version string
}

// TLSConfig names the PEM files for a tcp BuildKit address.
type TLSConfig struct {
	CA, Cert, Key string
	// ServerName overrides the host name to verify.
	ServerName string
}
