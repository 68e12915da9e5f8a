package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/flags"
	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
	"github.com/zlayer-dev/zlayer/engine"
)

// pipelineFlags are the flags of the pipeline command as they were given.
type pipelineFlags struct {
	file                  string
	set, only, except     []string
	platforms             []string
	list, print           bool
	root, defaultRegistry string
	allow                 []string
	normalizeModes        bool
	nestedIgnore          bool

	push                     bool
	noCache, locked, offline bool
	updateBottles            bool
	lockFile, pull           string

	jobs, retries   int
	failFast, quiet bool
	progress        string

	metadataFile, junitFile string
}

func (p *pipelineFlags) register(f *pflag.FlagSet) {
	f.SortFlags = false
	p.which(f)
	group(f, "What to build")
	f.BoolVar(&p.push, "push", false, "push all images with tags, but those that say push: false; --push=false pushes none. Without it the pipeline says which")
	f.StringVar(&p.metadataFile, "metadata-file", "", "write what is known about the results to `FILE`, as JSON by image")
	f.StringVar(&p.junitFile, "junit", "", "write how the images ended to `FILE`, as JUnit XML")
	group(f, "What comes out of it")
	f.BoolVar(&p.noCache, "no-cache", false, "run every step of every image anew")
	f.StringVar(&p.pull, "pull", "", "look base images up again, whatever the pipeline says: `MODE` is always (also without a mode), newer or never")
	f.Lookup("pull").NoOptDefVal = "always"
	f.StringVar(&p.lockFile, "lock-file", "", "hold to the lock `FILE`; without it zlayer.lock at the root (see --root), if it is there")
	f.BoolVar(&p.locked, "locked", false, "fail where an image, git or http source is not in the lock file")
	f.BoolVar(&p.offline, "offline", false, "ask no registry and no server what a name stands for: go by the lock file, else by what it stood for last")
	f.BoolVar(&p.updateBottles, "update-bottles", false, "update the lock file before the build, as zlayer lock --update does")
	group(f, "Cache")
	f.IntVarP(&p.jobs, "jobs", "j", 0, "build, export and push at most `N` images at once instead of as many as a daemon takes well")
	f.IntVar(&p.retries, "retries", 0, "try a step that fails, a pull or a push up to `N` times more, whatever the pipeline says")
	f.BoolVar(&p.failFast, "fail-fast", false, "stop everything at the first failure")
	f.StringVar(&p.progress, "progress", "", "show progress as `MODE`: auto, tty, plain, rawjson or quiet")
	f.BoolVarP(&p.quiet, "quiet", "q", false, "print names and digests of the images and nothing else")
	group(f, "How to go about it")
}

// which are the flags that say which pipeline, and what of it.
func (p *pipelineFlags) which(f *pflag.FlagSet) {
	f.StringVarP(&p.file, "file", "f", "", "pipeline `FILE`; without it ZPipeline.yaml, ZPipeline.yml, zlayer-pipeline.yaml or zlayer-pipeline.yml in the working directory")
	f.StringArrayVar(&p.set, "set", nil, "set a variable, `NAME=VALUE`, or a field of images, IMAGE.FIELD=VALUE, IMAGE having wildcards; += adds to a list (repeatable)")
	f.StringArrayVar(&p.only, "only", nil, "build `NAME,...` only: images, matrices and groups, with wildcards; as arguments (repeatable)")
	f.StringArrayVar(&p.except, "except", nil, "leave out `NAME,...` (repeatable)")
	f.StringArrayVar(&p.platforms, "platform", nil, "build all images for `PLATFORM,...` (OS/ARCH[/VARIANT]); several give an index (repeatable)")
	f.StringVar(&p.root, "root", "", "let builds of other directories read what is below `DIR`; without it the git work tree of the pipeline file, or its directory")
	f.StringVar(&p.defaultRegistry, "default-registry", "", "look for images with short names, as in FROM alpine, in `REGISTRY` (HOST[/PATH]) first and on Docker Hub only if they are not there")
	f.BoolVar(&p.normalizeModes, "normalize-modes", false, "take permission bits of local files as git does, 0755 for what its owner may execute and 0644 for the rest, so that the umask of a checkout does not matter")
	f.BoolVar(&p.nestedIgnore, "nested-ignore", false, "have .dockerignore files in directories below the build context count for what is below them, which other builders do not know")
	f.StringArrayVar(&p.allow, "allow", nil, "an `ENTITLEMENT` for all images: network.host, security.insecure, device[=NAME], or fs.read=DIR for builds of directories outside the root (repeatable)")
	f.BoolVar(&p.list, "list", false, "list images and groups instead of building")
	f.BoolVar(&p.print, "print", false, "print the plan, with everything resolved, as JSON instead of building")
}

// pipelinePlan is a pipeline command with all its values checked.
type pipelinePlan struct {
	pipeline                *engine.Pipeline
	options                 engine.PipelineOptions
	mode                    progress.Mode
	list, print             bool
	updateLock              bool
	metadataFile, junitFile string
}

// plan checks everything that can be checked without a daemon.
func (p *pipelineFlags) plan(a *app, given *pflag.FlagSet, args []string) (*pipelinePlan, error) {
	if p.list && p.print {
		return nil, usage(errors.New("--list and --print exclude each other: give one of them"))
	}
	pl, err := p.load(a, given, args)
	if err != nil {
		return nil, err
	}
	out := &pipelinePlan{pipeline: pl, list: p.list, print: p.print, metadataFile: p.metadataFile, junitFile: p.junitFile}
	if out.mode, err = a.progressMode(p.progress, p.quiet, given.Changed("progress")); err != nil {
		return nil, usage(err)
	}
	if p.jobs < 0 || given.Changed("jobs") && p.jobs == 0 {
		return nil, usage(fmt.Errorf("--jobs %d: use a number above 0", p.jobs))
	}
	if p.retries < 0 {
		return nil, usage(fmt.Errorf("--retries %d: use 0 or a number above", p.retries))
	}
	for flag, file := range map[string]string{"metadata-file": p.metadataFile, "junit": p.junitFile} {
		if !given.Changed(flag) {
			continue
		}
		if file == "" {
			return nil, usage(fmt.Errorf("--%s: the file name is empty", flag))
		}
		if err := checkDir(filepath.Dir(file)); err != nil {
			return nil, usage(fmt.Errorf("--%s: %w", flag, err))
		}
	}
	out.options = engine.PipelineOptions{
		Jobs: p.jobs, FailFast: p.failFast, Root: p.root, LockFile: p.lockFile,
		NoCache: p.noCache, Locked: p.locked, Offline: p.offline, DefaultRegistry: p.defaultRegistry,
		NormalizeModes: p.normalizeModes, NestedIgnore: p.nestedIgnore,
	}
	if given.Changed("memo") {
		// What the environment says goes after the cache of the pipeline.
		out.options.Memo = a.globals.memo
	}
	if given.Changed("retries") {
		out.options.Retries = &p.retries
	}
	if err := p.looking(given, out); err != nil {
		return nil, usage(err)
	}
	if out.options.Allow, err = parseAll("allow", p.allow, flags.ParseAllow); err != nil {
		return nil, usage(err)
	}
	return out, nil
}

// looking is what is looked up again.
func (p *pipelineFlags) looking(given *pflag.FlagSet, out *pipelinePlan) error {
	if given.Changed("pull") {
		var err error
		if out.options.Pull, err = flags.ParsePull(p.pull); err != nil {
			return fmt.Errorf("--pull: %w", err)
		}
	}
	switch out.updateLock = p.updateBottles; {
	case p.offline && (out.options.Pull == engine.PullAlways || out.options.Pull == engine.PullNewer):
		return fmt.Errorf("--offline and --pull=%s contradict each other: give one of them", out.options.Pull)
	case p.updateBottles && p.offline:
		return errors.New("--update-bottles looks everything up, and --offline forbids that: give one of them")
	case p.updateBottles && (p.list || p.print):
		return errors.New("--list and --print build nothing, so --update-bottles cannot be done: leave out one of them")
	}
	return nil
}

// load reads the pipeline.
func (p *pipelineFlags) load(a *app, given *pflag.FlagSet, args []string) (*engine.Pipeline, error) {
	req := engine.PipelineRequest{
		File: p.file, Set: p.set, Only: append(words(p.only), args...), Except: words(p.except),
		Platforms: words(p.platforms), LookupEnv: a.lookup,
	}
	if given.Changed("push") {
		req.Push = &p.push
	}
	pl, err := engine.LoadPipeline(req)
	if err != nil {
		return nil, err
	}
	for _, w := range pl.Warnings() {
		a.note("warning: " + w.Error())
	}
	return pl, nil
}

// words splits values that are lists.
func words(list []string) []string {
	var out []string
	for _, s := range list {
		for w := range strings.SplitSeq(s, ",") {
			if w = strings.TrimSpace(w); w != "" {
				out = append(out, w)
			}
		}
	}
	return out
}
