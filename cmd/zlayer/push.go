package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/store"
)

func newPush(a *app) *cobra.Command {
	var insecure bool
	cmd := &cobra.Command{
		Use:   "push [flags] IMAGE [NAME]",
		Short: "Push an image from the store to its registry",
		Long: `Push an image from the store to its registry, with all its platforms and
attestations, under its own name or another one. Credentials are those of docker:
its config.json and credential helpers.`,
		Example: "  zlayer push registry.example/app:1\n  zlayer push app registry.example/app:1",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return fmt.Errorf("zlayer push takes IMAGE and perhaps NAME, not %d arguments", len(args))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&insecure, "insecure", false, "accept plain http and certificates that nobody vouches for")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o := store.PushOptions{}
		target := args[0]
		if len(args) == 2 {
			o.Target, target = args[1], args[1]
		}
		host := ""
		if named, err := reference.ParseNormalizedNamed(target); err == nil {
			host = reference.Domain(named)
		} else if len(args) == 2 {
			return usage(fmt.Errorf("name %q: %w", target, err))
		}
		o.Insecure = insecure || a.insecureRegistry(host)
		var err error
		if o.Transport, err = a.registryTransport(host); err != nil {
			return err
		}
		p := &pushLine{app: a, show: isTerminal(a.stderr), now: time.Now}
		o.Progress = p.update
		return a.withStore(cmd.Context(), func(s *store.Store) error {
			pushed, err := s.Push(cmd.Context(), args[0], o)
			p.clear()
			if err != nil {
				return err
			}
			return a.print("pushed " + pushed.Reference + "@" + pushed.Descriptor.Digest.String() + "\n")
		})
	}
	return storeCommand(cmd, registryFlags)
}

// insecureRegistry tells whether flags let a registry be asked without certificates.
func (a *app) insecureRegistry(host string) bool {
	return slices.Contains(a.globals.plainHTTP, host) || slices.Contains(a.globals.insecure, host)
}

// registryTransport trusts the CAs that --registry-ca names for host besides the
// system's; nil is the default transport.
func (a *app) registryTransport(host string) (http.RoundTripper, error) {
	cfg, err := a.globals.config()
	if err != nil {
		return nil, usage(err)
	}
	files := cfg.RegistryCAs[host]
	if len(files) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, usage(err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, usage(fmt.Errorf("--registry-ca: %s holds no PEM certificate", f))
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: pool}
	return t, nil
}

// pushLine shows on a terminal how far a push is.
type pushLine struct {
	app  *app
	show bool
	now  func() time.Time
	last time.Time
	text string
}

func (p *pushLine) update(done, total int64) {
	if !p.show || p.now().Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last = p.now()
	p.clear()
	p.text = fmt.Sprintf("pushing %s of %s", size(done), size(total))
	_, _ = fmt.Fprint(p.app.stderr, p.text)
}

// clear wipes the line.
func (p *pushLine) clear() {
	if p.text != "" {
		_, _ = fmt.Fprint(p.app.stderr, "\r"+strings.Repeat(" ", len(p.text))+"\r")
		p.text = ""
	}
}
