package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/flags"
	"github.com/zlayer-dev/zlayer/engine"
)

// globals are the flags that may stand before or after the command's name.
type globals struct {
	addr                                     string
	tlsCA, tlsCert, tlsKey, tlsServerName    string
	noDaemon                                 bool
	stateDir, storeDir, daemonConfig         string
	mirrors, plainHTTP, insecure, registryCA []string
	memo                                     []string
	maxParallelism                           int
	debug                                    bool
}

// The global flags in groups that commands use together.
var (
	storeFlags    = []string{"store-dir"}
	stateFlags    = []string{"state-dir"}
	remoteFlags   = []string{"addr", "tls-ca", "tls-cert", "tls-key", "tls-servername", "no-daemon"}
	embeddedFlags = []string{"daemon-config", "max-parallelism", "registry-mirror", "registry-http", "registry-insecure", "registry-ca"}
	registryFlags = []string{"registry-http", "registry-insecure", "registry-ca"}
	memoFlags     = []string{"memo"}
	debugFlags    = []string{"debug"}
)

// globalEnv says which environment variable stands in for a flag.
var globalEnv = map[string]string{
	"addr":            "BUILDKIT_HOST",
	"no-daemon":       "ZLAYER_NO_DAEMON",
	"state-dir":       "ZLAYER_STATE_DIR",
	"store-dir":       "ZLAYER_STORE_DIR",
	"daemon-config":   "ZLAYER_DAEMON_CONFIG",
	"max-parallelism": "ZLAYER_MAX_PARALLELISM",
	"memo":            "ZLAYER_MEMO",
	"debug":           "ZLAYER_DEBUG",
}

func (g *globals) register(f *pflag.FlagSet) {
	f.SortFlags = false
	f.StringVar(&g.addr, "addr", "", "use the BuildKit at `ADDRESS`: unix://, tcp://, ssh://, docker-container://, podman-container:// or kube-pod://")
	f.StringVar(&g.tlsCA, "tls-ca", "", "verify a tcp:// BuildKit by the CA certificates in `FILE`")
	f.StringVar(&g.tlsCert, "tls-cert", "", "show a tcp:// BuildKit the client certificate in `FILE`")
	f.StringVar(&g.tlsKey, "tls-key", "", "the private key `FILE` of --tls-cert")
	f.StringVar(&g.tlsServerName, "tls-servername", "", "expect `NAME` in the certificate of a tcp:// BuildKit")
	f.BoolVar(&g.noDaemon, "no-daemon", false, "run BuildKit for this command alone instead of in a shared background daemon")
	f.StringVar(&g.stateDir, "state-dir", "", "keep the build cache and the daemon's files in `DIR`")
	f.StringVar(&g.storeDir, "store-dir", "", "keep images in `DIR`")
	f.StringVar(&g.daemonConfig, "daemon-config", "", "configure the embedded daemon by `FILE`, in the syntax of buildkitd.toml")
	f.IntVar(&g.maxParallelism, "max-parallelism", 0, "have the embedded daemon run at most `N` steps at one time, of all builds together; without it what the configuration says, else any number")
	f.StringArrayVar(&g.mirrors, "registry-mirror", nil, "for images of HOST ask MIRROR first: `HOST=MIRROR` (repeatable)")
	f.StringArrayVar(&g.plainHTTP, "registry-http", nil, "speak plain http with the registry `HOST` (repeatable)")
	f.StringArrayVar(&g.insecure, "registry-insecure", nil, "do not verify the certificate of the registry `HOST` (repeatable)")
	f.StringArrayVar(&g.registryCA, "registry-ca", nil, "verify a registry by the CA certificates in a file: `HOST=FILE` (repeatable)")
	f.StringArrayVar(&g.memo, "memo", nil, "remember in `PLACE` what builds gave: local[=DIR] (without this flag), registry=REPOSITORY, s3=bucket=NAME,..., several joined by +, or off; docs/memo.md has the options (repeatable)")
	f.BoolVar(&g.debug, "debug", false, "tell the details of warnings and what BuildKit's client logs; have a daemon that is started for it keep a verbose log")
}

// usesGlobals notes which global flags a command heeds.
func usesGlobals(cmd *cobra.Command, groups ...[]string) {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations["globals"] = strings.Join(slices.Concat(groups...), " ")
}

// heeds reports whether cmd uses a global flag.
func heeds(cmd *cobra.Command, name string) bool {
	return slices.Contains(strings.Fields(cmd.Annotations["globals"]), name)
}

// check takes flags that were not given from the environment, and refuses those
// that have no effect on cmd or contradict each other.
func (g *globals) check(cmd *cobra.Command, lookup func(string) (string, bool)) error {
	var errs []error
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Changed && !heeds(cmd, f.Name):
			errs = append(errs, fmt.Errorf("--%s has no effect on %s: leave it out", f.Name, cmd.CommandPath()))
		case !f.Changed && heeds(cmd, f.Name):
			errs = append(errs, setFromEnv(f, globalEnv[f.Name], lookup))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	g.yield(cmd.InheritedFlags().Changed)
	return g.validate()
}

// yield drops what the environment says where a flag on this command line asks for
// the opposite.
func (g *globals) yield(given func(string) bool) {
	if given("no-daemon") && g.noDaemon && !given("addr") {
		g.addr = ""
	}
	if given("addr") && !given("no-daemon") {
		g.noDaemon = false
	}
	if g.addr != "" && !given("daemon-config") {
		g.daemonConfig = ""
	}
	if g.addr != "" && !given("max-parallelism") {
		g.maxParallelism = 0
	}
}

// setFromEnv gives f the value of an environment variable that is not empty.
func setFromEnv(f *pflag.Flag, name string, lookup func(string) (string, bool)) error {
	if name == "" {
		return nil
	}
	v, ok := lookup(name)
	if !ok || v == "" {
		return nil
	}
	if err := f.Value.Set(v); err != nil {
		return fmt.Errorf("environment variable %s=%s: not a value of --%s", name, v, f.Name)
	}
	return nil
}

func (g *globals) validate() error {
	embedded := g.daemonConfig != "" || g.maxParallelism != 0 || len(g.mirrors)+len(g.plainHTTP)+len(g.insecure)+len(g.registryCA) > 0
	tls := g.tlsCA != "" || g.tlsCert != "" || g.tlsKey != "" || g.tlsServerName != ""
	switch {
	case g.addr != "" && g.noDaemon:
		return errors.New("--addr (BUILDKIT_HOST) and --no-daemon (ZLAYER_NO_DAEMON) contradict each other: give one of them")
	case g.addr != "" && embedded:
		return fmt.Errorf("--daemon-config, --max-parallelism and the --registry flags are for the embedded daemon: configure the BuildKit at %s (--addr or BUILDKIT_HOST) itself", g.addr)
	case g.maxParallelism < 0:
		return fmt.Errorf("--max-parallelism %d: use a number above 0", g.maxParallelism)
	case tls && !strings.HasPrefix(g.addr, "tcp://"):
		return errors.New("the --tls flags are for a BuildKit at --addr tcp://HOST:PORT")
	case (g.tlsCert == "") != (g.tlsKey == ""):
		return errors.New("--tls-cert and --tls-key need each other")
	}
	if err := checkAddr(g.addr); err != nil {
		return err
	}
	for _, f := range []struct{ flag, file string }{
		{"tls-ca", g.tlsCA}, {"tls-cert", g.tlsCert}, {"tls-key", g.tlsKey}, {"daemon-config", g.daemonConfig},
	} {
		if err := checkFile(f.file); err != nil {
			return fmt.Errorf("--%s: %w", f.flag, err)
		}
	}
	_, err := g.config()
	return err
}

// checkAddr looks at the scheme only: the rest is the connection's business.
func checkAddr(addr string) error {
	if addr == "" {
		return nil
	}
	schemes := []string{"unix", "tcp", "ssh", "docker-container", "podman-container", "kube-pod"}
	scheme, rest, ok := strings.Cut(addr, "://")
	if !ok || rest == "" || !slices.Contains(schemes, scheme) {
		return fmt.Errorf("--addr %q: write %s://...", addr, strings.Join(schemes, "://, "))
	}
	return nil
}

// checkFile makes sure that a file can be read; an empty name is no file.
func checkFile(name string) error {
	if name == "" {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.IsDir() {
		return fmt.Errorf("%s is a directory", name)
	}
	return nil
}

// config is what the engine is opened with.
func (g *globals) config() (engine.Config, error) {
	c := engine.Config{
		StateDir:     g.stateDir,
		StoreDir:     g.storeDir,
		Addr:         g.addr,
		NoDaemon:     g.noDaemon,
		TLS:          engine.TLSConfig{CA: g.tlsCA, Cert: g.tlsCert, Key: g.tlsKey, ServerName: g.tlsServerName},
		DaemonConfig: g.daemonConfig,
		Memo:         g.memo,
		PlainHTTP:    g.plainHTTP,
		Insecure:     g.insecure,

		MaxParallelism: g.maxParallelism,
		// A shared daemon is not replaced for the sake of its log.
		Debug:   g.debug && g.noDaemon,
		Version: version,
	}
	for _, h := range slices.Concat(g.plainHTTP, g.insecure) {
		if err := flags.CheckHost(h); err != nil {
			return c, fmt.Errorf("--registry-http or --registry-insecure: %w", err)
		}
	}
	var err error
	if c.Mirrors, err = hostValues("registry-mirror", g.mirrors, flags.CheckHost); err != nil {
		return c, err
	}
	c.RegistryCAs, err = hostValues("registry-ca", g.registryCA, checkFile)
	return c, err
}

// hostValues collects HOST=VALUE by host.
func hostValues(flag string, list []string, check func(string) error) (map[string][]string, error) {
	out := map[string][]string{}
	for _, s := range list {
		host, value, err := flags.ParseHostValue(s)
		if err == nil {
			err = check(value)
		}
		if err != nil {
			return nil, fmt.Errorf("--%s %q: %w", flag, s, err)
		}
		out[host] = append(out[host], value)
	}
	return out, nil
}
