package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/moby/buildkit/session/secrets/secretsprovider"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/flags"
	"github.com/zlayer-dev/zlayer/engine"
)

// result is where the result goes: the outputs, --push and --load.
func (p *planner) result() error {
	r := &p.plan.request
	r.Push, r.Load = p.push, p.load
	list, err := parseAll("output", p.outputs, flags.ParseOutput)
	if err != nil {
		return err
	}
	for i, o := range list {
		switch {
		case o.Load && r.Load:
			return errors.New("--load and -o type=docker without dest ask for the same: give one of them")
		case o.Load:
			r.Load, p.imageOut = true, true
			continue
		case o.Stdout:
			if err := p.takeStdout(&o.Output); err != nil {
				return fmt.Errorf("--output %q: %w", p.outputs[i], err)
			}
		}
		p.imageOut = p.imageOut || o.Image()
		r.Outputs = append(r.Outputs, o.Output)
	}
	p.imageOut = p.imageOut || len(list) == 0 || r.Push || r.Load
	return errors.Join(p.checkOutputs(), p.checkNames(), p.checkPlatforms())
}

// takeStdout gives standard output to an archive.
func (p *planner) takeStdout(o *engine.Output) error {
	switch {
	case p.plan.archive != nil:
		return errors.New("two archives cannot go to standard output: add dest=FILE to one")
	case isTerminal(p.app.stdout):
		return errors.New("an archive is not written to a terminal: redirect standard output or add dest=FILE")
	}
	p.plan.archive = &archiveWriter{w: p.app.stdout}
	o.Writer = p.plan.archive
	return nil
}

// checkOutputs looks for outputs that exclude each other.
func (p *planner) checkOutputs() error {
	r := &p.plan.request
	dests := map[string]bool{}
	for _, o := range r.Outputs {
		if o.Type == engine.OutputCacheOnly && (len(r.Outputs) > 1 || r.Push || r.Load) {
			return errors.New("-o type=cacheonly means that nothing comes out: leave it out, or the other outputs, --push and --load")
		}
		if o.Dest != "" && dests[o.Dest] {
			return fmt.Errorf("two outputs go to %s: give them different dest", o.Dest)
		}
		dests[o.Dest] = true
	}
	return nil
}

// checkNames looks for names without an image and pushes without a name.
func (p *planner) checkNames() error {
	r := &p.plan.request
	if !p.imageOut {
		for _, name := range []string{"tag", "annotation", "iidfile"} {
			if p.given.Changed(name) {
				return fmt.Errorf("--%s is about an image, and the outputs are files only: leave it out or add -o type=store", name)
			}
		}
	}
	if len(r.Tags) > 0 {
		return nil
	}
	if r.Push {
		return errors.New("--push needs a name to push to: add --tag HOST/NAME:TAG")
	}
	for i, o := range r.Outputs {
		if o.Attrs["push"] == "true" && o.Attrs["name"] == "" {
			return fmt.Errorf("output %d needs a name to push to: add --tag HOST/NAME:TAG or name=", i+1)
		}
	}
	return nil
}

// checkPlatforms refuses formats that hold one platform only.
func (p *planner) checkPlatforms() error {
	r := &p.plan.request
	if len(r.Platforms) < 2 {
		return nil
	}
	if r.Load {
		return errors.New("docker loads images of one platform only: give one --platform, or use --push or -o type=oci,dest=FILE")
	}
	for _, o := range r.Outputs {
		if o.Type == engine.OutputDocker {
			return errors.New("-o type=docker holds one platform only: give one --platform or use type=oci")
		}
	}
	return nil
}

// access is what steps may reach: secrets, ssh agents, the network.
func (p *planner) access() error {
	r := &p.plan.request
	secret := func(s string) (engine.Secret, error) {
		sec, err := flags.ParseSecret(s, p.app.lookup)
		if err != nil {
			return sec, err
		}
		return sec, checkSecret(sec)
	}
	agent := func(s string) (engine.SSHAgent, error) { return flags.ParseSSH(s, p.app.lookup) }
	var err error
	if r.Secrets, err = parseAll("secret", p.secrets, secret); err != nil {
		return err
	}
	if r.SSH, err = parseAll("ssh", p.ssh, agent); err != nil {
		return err
	}
	if err := p.checkIDs(); err != nil {
		return err
	}
	if r.Allow, err = parseAll("allow", p.allow, flags.ParseAllow); err != nil {
		return err
	}
	if p.network != "" {
		if r.Network, err = flags.ParseNetwork(p.network); err != nil {
			return fmt.Errorf("--network: %w", err)
		}
	}
	return nil
}

// checkIDs refuses two secrets or two agents of one id: only one could be used.
func (p *planner) checkIDs() error {
	ids := map[string]bool{}
	for _, s := range p.plan.request.Secrets {
		if ids["secret "+s.ID] {
			return fmt.Errorf("the secret %s is given twice", s.ID)
		}
		ids["secret "+s.ID] = true
	}
	for _, s := range p.plan.request.SSH {
		if ids["ssh "+s.ID] {
			return fmt.Errorf("the ssh agent %s is given twice", s.ID)
		}
		ids["ssh "+s.ID] = true
		for _, path := range s.Paths {
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("--ssh %s: %w", s.ID, err)
			}
		}
	}
	return nil
}

// checkSecret makes sure that a secret's file is there and not too large. That a
// variable is not set is no mistake: steps can do without a secret.
func checkSecret(s engine.Secret) error {
	if s.File == "" {
		return nil
	}
	if err := checkFile(s.File); err != nil {
		return err
	}
	fi, err := os.Stat(s.File)
	if err != nil {
		return err
	}
	if fi.Size() > secretsprovider.MaxSecretSize {
		return fmt.Errorf("%s has %d bytes: a secret may have %d", s.File, fi.Size(), secretsprovider.MaxSecretSize)
	}
	return nil
}
