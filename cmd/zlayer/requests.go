package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/flags"
	"github.com/zlayer-dev/zlayer/engine"
)

// sources registers the flags that say what builds read.
func (b *buildFlags) sources(f *pflag.FlagSet) {
	b.what(f)
	b.lockFileFlag(f)
	b.allowFlag(f)
}

// requests are builds of several contexts that are told the same; none is that of
// the working directory. Their names are the contexts.
func (b *buildFlags) requests(a *app, given *pflag.FlagSet, contexts []string) ([]engine.NamedRequest, error) {
	if len(contexts) == 0 {
		contexts = []string{"."}
	}
	if b.file != "" && len(contexts) > 1 {
		return nil, errors.New("--file is the build file of one build context, not of several: leave it out or name one")
	}
	var list []engine.NamedRequest
	names := map[string]bool{}
	for _, c := range contexts {
		name := filepath.ToSlash(filepath.Clean(c))
		if names[name] {
			return nil, fmt.Errorf("the build context %s is named twice", name)
		}
		names[name] = true
		req, err := b.request(a, given, c)
		if err != nil {
			return nil, err
		}
		list = append(list, engine.NamedRequest{Name: name, Request: req})
	}
	return list, nil
}

// request is what flags say about what a build reads. Of its outputs it has those that
// are files: a WebAssembly build does not read what it leaves in its own context.
func (b *buildFlags) request(a *app, given *pflag.FlagSet, context string) (engine.Request, error) {
	p := &planner{buildFlags: b, app: a, given: given, plan: &buildPlan{}}
	for _, step := range []func() error{
		func() error { return p.source([]string{context}) },
		p.arguments, p.metadata, p.image, p.cache, p.locking, p.access, p.limits, p.places,
	} {
		if err := step(); err != nil {
			return engine.Request{}, err
		}
	}
	return p.plan.request, nil
}

// places are the files and directories that results go to.
func (p *planner) places() error {
	list, err := parseAll("output", p.outputs, flags.ParseOutput)
	for _, o := range list {
		if o.Dest != "" {
			p.plan.request.Outputs = append(p.plan.request.Outputs, o.Output)
		}
	}
	return err
}
