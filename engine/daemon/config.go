package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	resolverconfig "github.com/moby/buildkit/util/resolver/config"
)

// DefaultIdleTimeout is how long a background daemon without connections
// stays, if Config.IdleTimeout is zero. A daemon costs some 40 MB while idle
// and 0.1 s to start.
const DefaultIdleTimeout = 10 * time.Minute

// Config says how the embedded BuildKit runs. Its zero value is usable.
//
// A running daemon whose effective configuration differs from the caller's is
// never used: it is replaced when idle, and otherwise a second one is started
// beside it. Only IdleTimeout and Executable are taken from whoever happens to
// start the daemon.
type Config struct {
	// StateDir holds the build cache, the socket and the log. Daemons with
	// different state directories know nothing of each other. Empty means
	// DefaultStateDir().
	StateDir string

	// IdleTimeout is how long a background daemon without connections stays.
	// Zero means DefaultIdleTimeout, less than zero: for ever.
	IdleTimeout time.Duration

	// Executable is the command, with leading arguments, that runs this
	// program again. Empty means the running executable, in which case main
	// must call Reexec first thing; the arguments then only make the daemon
	// recognizable in a list of processes.
	Executable []string

	// BuildID tells builds of this program apart: client and daemon must have
	// the same. Empty means an identity made from the version stamp, size and
	// modification time of the running executable.
	BuildID string

	// Runc is the OCI runtime: a path or a name to look up in PATH. It must be
	// runc or behave like it in every detail (crun does not). Empty means the
	// embedded one (builds with the tag embedrunc), else buildkit-runc, else
	// runc in PATH.
	Runc string

	// ConfigFile is a configuration file in buildkitd.toml syntax, see
	// LoadFile. Empty means none.
	ConfigFile string

	// Registries adds to, and for single values overrides, the registry
	// sections of ConfigFile. The key is a registry's host[:port], with
	// docker.io for Docker Hub.
	Registries map[string]resolverconfig.RegistryConfig

	// MaxStorage bounds the build cache, in bytes. Zero means the value in
	// ConfigFile, else BuildKit's default: 80 % of the file system but at most
	// 100 GB, and 20 % of it left free.
	MaxStorage int64

	// MaxParallelism bounds the build steps that run at one time. Zero means
	// the value in ConfigFile, else no bound.
	MaxParallelism int

	// Debug makes the log verbose.
	Debug bool
}

// settings are the part of a configuration that decides how a daemon behaves,
// with files and environment already read. They travel to the daemon as JSON,
// and their hash is what client and daemon compare.
type settings struct {
	BuildID        string
	Runc           string
	Registries     map[string]resolverconfig.RegistryConfig
	DNS            *config.DNSConfig
	GC             []client.PruneInfo
	MaxParallelism int
	Debug          bool
	// Env holds the variables that change what a daemon does on behalf of its
	// clients: proxies and certificate stores.
	Env []string
}

// settings reads what c refers to and fills in the defaults.
func (c Config) settings() (settings, error) {
	s := settings{BuildID: c.BuildID, Runc: c.Runc, MaxParallelism: c.MaxParallelism, Debug: c.Debug}
	if s.BuildID == "" {
		s.BuildID = executableID()
	}
	var file File
	if c.ConfigFile != "" {
		var err error
		if file, err = LoadFile(c.ConfigFile); err != nil {
			return settings{}, err
		}
	}
	s.Registries = mergeRegistries(file.Registries, c.Registries)
	s.DNS = file.DNS
	dir, err := c.stateDir()
	if err != nil {
		return settings{}, err
	}
	if s.GC, err = gcPolicy(file.Worker.OCI.GCConfig, c.MaxStorage, dir); err != nil {
		return settings{}, err
	}
	if s.MaxParallelism == 0 {
		s.MaxParallelism = file.Worker.OCI.MaxParallelism
	}
	if s.MaxParallelism < 0 {
		return settings{}, fmt.Errorf("maximum parallelism %d is negative: use 0 for no bound", s.MaxParallelism)
	}
	s.Debug = s.Debug || file.Debug
	s.Env = daemonEnv()
	return s, nil
}

// hash is equal for equal settings and fit for file names.
func (s settings) hash() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("daemon: settings cannot be encoded: %v", err))
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// daemonEnv returns the variables of the environment that are part of a
// daemon's configuration.
func daemonEnv() []string {
	var env []string
	for _, name := range []string{
		"ALL_PROXY", "FTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
		"all_proxy", "ftp_proxy", "https_proxy", "http_proxy", "no_proxy",
		"SSL_CERT_DIR", "SSL_CERT_FILE",
	} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// executableID identifies the running executable well enough to tell two
// builds apart, at the price of one stat.
func executableID() string {
	id := "unknown"
	if bi, ok := debug.ReadBuildInfo(); ok {
		id = bi.Main.Version
	}
	path, err := os.Executable()
	if err != nil {
		return id
	}
	// The link, not the path: the file may have been replaced since.
	fi, err := os.Stat("/proc/self/exe")
	if err != nil {
		if fi, err = os.Stat(path); err != nil {
			return id
		}
	}
	return id + "-" + strconv.FormatInt(fi.Size(), 36) + "-" + strconv.FormatInt(fi.ModTime().UnixNano(), 36)
}

// DefaultStateDir returns /var/lib/zlayer for root, and for others
// $XDG_STATE_HOME/zlayer or ~/.local/state/zlayer. It fails if the user has no
// home directory.
func DefaultStateDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/zlayer", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "zlayer"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding a place for the build cache: %w: set ZLAYER_STATE_DIR", err)
	}
	return filepath.Join(home, ".local", "state", "zlayer"), nil
}

// stateDir returns the absolute state directory.
func (c Config) stateDir() (string, error) {
	if c.StateDir == "" {
		return DefaultStateDir()
	}
	dir, err := filepath.Abs(c.StateDir)
	if err != nil {
		return "", fmt.Errorf("finding the state directory: %w", err)
	}
	return dir, nil
}

func (c Config) idleTimeout() time.Duration {
	if c.IdleTimeout == 0 {
		return DefaultIdleTimeout
	}
	return c.IdleTimeout
}

// RegistryHosts says how registries are reached, from the configuration file and
// from Registries: what a daemon of this configuration does, for callers that talk
// to registries themselves.
func (c Config) RegistryHosts() (map[string]resolverconfig.RegistryConfig, error) {
	var file File
	if c.ConfigFile != "" {
		var err error
		if file, err = LoadFile(c.ConfigFile); err != nil {
			return nil, err
		}
	}
	return mergeRegistries(file.Registries, c.Registries), nil
}
