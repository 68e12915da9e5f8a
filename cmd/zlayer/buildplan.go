package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/spf13/pflag"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/flags"
	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
	"github.com/zlayer-dev/zlayer/engine"
)

// planner makes a plan of flags; each of its steps fills a part.
type planner struct {
	*buildFlags
	app   *app
	given *pflag.FlagSet
	plan  *buildPlan
	// imageOut: there is an output that is an image.
	imageOut bool
}

// plan checks everything that can be checked without a daemon. All its errors
// are mistakes on the command line.
func (b *buildFlags) plan(a *app, given *pflag.FlagSet, args []string) (*buildPlan, error) {
	p := &planner{buildFlags: b, app: a, given: given, plan: &buildPlan{}}
	for _, step := range []func() error{
		func() error { return p.source(args) },
		p.arguments, p.metadata, p.image, p.result, p.cache, p.locking, p.access, p.limits, p.scheduling, p.view, p.question, p.files,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p.plan, nil
}

// source is the build context and the build file.
func (p *planner) source(args []string) error {
	r := &p.plan.request
	r.Context, r.File, r.Target, r.WasmFormat = ".", p.file, p.target, engine.WasmFormat(p.wasmFormat)
	if len(args) == 1 {
		r.Context = args[0]
	}
	if r.Context == "" {
		return errors.New("the build context is empty: name a directory, a URL or -")
	}
	if r.Context == "-" && r.File == "-" {
		return errors.New("build context and build file cannot both come from standard input")
	}
	if r.Context == "-" || r.File == "-" {
		if isTerminal(p.app.stdin) {
			return errors.New("standard input is a terminal: send a build file or an archive there")
		}
		r.Stdin = p.app.stdin
	}
	if p.syntax != "" {
		if _, err := reference.ParseNormalizedNamed(p.syntax); err != nil {
			return fmt.Errorf("--syntax %q: %w", p.syntax, err)
		}
		r.Syntax = p.syntax
	}
	r.Root, r.Runtime, r.RuntimeAuto = p.root, p.runtime, p.runtimeAuto
	r.NormalizeModes, r.NestedIgnore = p.normalizeModes, p.nestedIgnore
	var err error
	r.BuildContexts, err = unique("build-context", p.contexts, flags.ParseBuildContext)
	return err
}

// arguments are build arguments: those given, then docker's proxies, then
// SOURCE_DATE_EPOCH.
func (p *planner) arguments() error {
	args := map[string]string{}
	for _, s := range p.buildArgs {
		k, v, ok, err := flags.ParseBuildArg(s, p.app.lookup)
		if err != nil {
			return fmt.Errorf("--build-arg %q: %w", s, err)
		}
		if ok {
			args[k] = v
		}
	}
	proxies, err := dockerProxies(p.app.globals.addr)
	if err != nil {
		p.app.note("zlayer: " + err.Error() + "; its proxies are not used")
	}
	for k, v := range proxies {
		if _, ok := args[k]; !ok {
			args[k] = v
		}
	}
	const epoch = "SOURCE_DATE_EPOCH"
	if v := p.app.env(epoch); v != "" {
		if _, ok := args[epoch]; !ok {
			args[epoch] = v
		}
	}
	p.plan.request.BuildArgs = args
	return nil
}

// metadata is what is written about the image.
func (p *planner) metadata() error {
	r := &p.plan.request
	r.Labels = map[string]string{}
	for _, s := range p.labels {
		k, v, err := flags.ParseLabel(s)
		if err != nil {
			return fmt.Errorf("--label %q: %w", s, err)
		}
		r.Labels[k] = v
	}
	var err error
	if r.Annotations, err = unique("annotation", p.annotations, flags.ParseAnnotation); err != nil {
		return err
	}
	r.Attests, err = flags.ParseAttests(p.attests, p.sbom, p.provenance)
	return err
}

// image is its names and platforms.
func (p *planner) image() error {
	r := &p.plan.request
	for _, t := range p.tags {
		if err := flags.CheckTag(t); err != nil {
			return fmt.Errorf("--tag %q: %w", t, err)
		}
	}
	r.Tags = p.tags
	list := p.platforms
	if v := p.app.env("DOCKER_DEFAULT_PLATFORM"); v != "" && len(list) == 0 {
		list = []string{v}
	}
	var err error
	if r.Platforms, err = flags.ParsePlatforms(list); err != nil {
		return fmt.Errorf("--platform: %w", err)
	}
	return nil
}

// cache says what may be taken from earlier builds and from where.
func (p *planner) cache() error {
	r := &p.plan.request
	if p.noCache && len(p.noCacheFilter) > 0 {
		return errors.New("--no-cache covers every stage: give it or --no-cache-filter")
	}
	r.NoCache = p.noCache
	for _, s := range p.noCacheFilter {
		for stage := range strings.SplitSeq(s, ",") {
			if stage == "" {
				return fmt.Errorf("--no-cache-filter %q: a stage's name is empty", s)
			}
			r.NoCacheFilter = append(r.NoCacheFilter, stage)
		}
	}
	var err error
	if p.given.Changed("pull") {
		if r.Pull, err = flags.ParsePull(p.pull); err != nil {
			return fmt.Errorf("--pull: %w", err)
		}
	}
	if r.DefaultRegistry = p.defaultRegistry; !p.given.Changed("default-registry") {
		r.DefaultRegistry = p.app.env("ZLAYER_DEFAULT_REGISTRY")
	}
	from := func(s string) (engine.CacheEntry, error) { return flags.ParseCacheFrom(s, p.app.lookup) }
	to := func(s string) (engine.CacheEntry, error) { return flags.ParseCacheTo(s, p.app.lookup) }
	if r.CacheFrom, err = parseAll("cache-from", p.cacheFrom, from); err != nil {
		return err
	}
	r.CacheTo, err = parseAll("cache-to", p.cacheTo, to)
	return err
}

// locking is what fixes sources that can change.
func (p *planner) locking() error {
	r := &p.plan.request
	r.LockFile, r.Locked, r.Offline = p.lockFile, p.locked, p.offline
	p.plan.updateLock = p.updateBottles
	switch {
	case p.given.Changed("lock-file") && p.lockFile == "":
		return errors.New("--lock-file: the file name is empty")
	case p.offline && (r.Pull == engine.PullAlways || r.Pull == engine.PullNewer):
		return fmt.Errorf("--offline and --pull=%s contradict each other: give one of them", r.Pull)
	case p.updateBottles && p.offline:
		return errors.New("--update-bottles looks everything up, and --offline forbids that: give one of them")
	case p.updateBottles && (r.Context == "-" || r.File == "-"):
		return errors.New("--update-bottles needs the build file twice, and standard input can be read once only: name a file")
	}
	return nil
}

// limits bound RUN steps.
func (p *planner) limits() error {
	r := &p.plan.request
	r.CgroupParent = p.cgroupParent
	if p.shmSize != "" {
		n, err := flags.ParseSize(p.shmSize)
		if err != nil {
			return fmt.Errorf("--shm-size %q: %w", p.shmSize, err)
		}
		r.ShmSize = n
	}
	var err error
	if r.Ulimits, err = parseAll("ulimit", p.ulimits, flags.ParseUlimit); err != nil {
		return err
	}
	r.AddHosts, err = parseAll("add-host", p.addHosts, flags.ParseAddHost)
	return err
}

// scheduling is how many stages are built at once and what a failure stops.
func (p *planner) scheduling() error {
	jobs, from := p.jobs, "--jobs"
	if v := p.app.env("ZLAYER_JOBS"); v != "" && !p.given.Changed("jobs") {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("environment variable ZLAYER_JOBS=%s: not a number", v)
		}
		jobs, from = n, "ZLAYER_JOBS"
	}
	if jobs < 1 && (p.given.Changed("jobs") || from != "--jobs") {
		return fmt.Errorf("%s=%d: at least one stage must be built at a time", from, jobs)
	}
	if p.retries < 0 {
		return fmt.Errorf("--retries %d: use 0 or a number above", p.retries)
	}
	p.plan.request.Jobs, p.plan.request.FailFast, p.plan.request.Retries = jobs, p.failFast, p.retries
	return nil
}

// view is what is shown.
func (p *planner) view() error {
	var err error
	if p.plan.mode, err = p.app.progressMode(p.progress, p.quiet, p.given.Changed("progress")); err != nil {
		return err
	}
	if p.plan.mode == progress.Quiet && p.plan.archive != nil {
		return errors.New("--quiet prints the digest to standard output, where the archive goes: add dest=FILE to --output")
	}
	return nil
}

// question is what --check and --call ask. They build nothing, so what a build
// would leave behind contradicts them.
func (p *planner) question() error {
	call, flag := p.call, "--call"
	if p.check {
		if call != "" && call != "check" {
			return fmt.Errorf("--check and --call=%s contradict each other: give one of them", call)
		}
		call, flag = "check", "--check"
	}
	if call == "" {
		return nil
	}
	c, err := flags.ParseCall(call)
	if err != nil {
		return fmt.Errorf("--call %q: %w", call, err)
	}
	p.plan.call, p.plan.json = c.Name, c.JSON
	if c.Name == "" {
		return nil
	}
	for _, name := range []string{"output", "push", "load", "metadata-file", "iidfile", "cache-to", "update-bottles"} {
		if p.given.Changed(name) {
			return fmt.Errorf("%s builds nothing, so --%s cannot be done: leave out one of them", flag, name)
		}
	}
	return nil
}

// files are those written after the build.
func (p *planner) files() error {
	p.plan.metadataFile, p.plan.iidFile = p.metadataFile, p.iidFile
	for _, f := range []struct{ flag, path string }{{"metadata-file", p.metadataFile}, {"iidfile", p.iidFile}} {
		switch {
		case !p.given.Changed(f.flag):
			continue
		case f.path == "":
			return fmt.Errorf("--%s: the file name is empty", f.flag)
		}
		if err := checkDir(filepath.Dir(f.path)); err != nil {
			return fmt.Errorf("--%s: %w", f.flag, err)
		}
	}
	if p.metadataFile != "" && p.metadataFile == p.iidFile {
		return errors.New("--metadata-file and --iidfile name the same file")
	}
	return nil
}

// parseAll parses each value of a repeatable flag.
func parseAll[T any](flag string, list []string, parse func(string) (T, error)) ([]T, error) {
	var out []T
	for _, s := range list {
		v, err := parse(s)
		if err != nil {
			return nil, fmt.Errorf("--%s %q: %w", flag, s, err)
		}
		out = append(out, v)
	}
	return out, nil
}

// unique parses key-value pairs whose keys must differ.
func unique(flag string, list []string, parse func(string) (string, string, error)) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		k, v, err := parse(s)
		if err != nil {
			return nil, fmt.Errorf("--%s %q: %w", flag, s, err)
		}
		if _, ok := out[k]; ok {
			return nil, fmt.Errorf("--%s %q: %s is given twice", flag, s, k)
		}
		out[k] = v
	}
	return out, nil
}

// archiveWriter is standard output as the place of an archive. What goes wrong on
// it comes back from the daemon as a mere text, so it is remembered here. Closing
// does nothing: standard output is not ours to close.
type archiveWriter struct {
	w   io.Writer
	err error
}

func (a *archiveWriter) Write(p []byte) (int, error) {
	n, err := a.w.Write(p)
	if err != nil && a.err == nil {
		a.err = &stdoutError{err}
	}
	return n, err
}

func (a *archiveWriter) Close() error { return nil }

// shortNames leaves out what every reference to Docker Hub begins with.
func shortNames(tags []string) []string {
	out := slices.Clone(tags)
	for i, t := range out {
		if named, err := reference.ParseNormalizedNamed(t); err == nil {
			out[i] = reference.FamiliarString(named)
		}
	}
	return out
}
