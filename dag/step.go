package dag

import (
	"errors"
	"time"

	"github.com/zlayer-dev/zlayer/graph"
)

// Step is one step of a stage: what [Run], [Shell], [Exec], [Copy], [Env], [Workdir],
// [User] and [Configure] give.
type Step struct {
	made
	do instruction
}

// instruction is what a step does.
type instruction interface {
	// reads are the sources it needs.
	reads() []Source
	// check says what is wrong with it.
	check() error
	// write gives it as instructions of a Dockerfile.
	write(r *renderer) []string
}

func newStep(pos graph.Pos, do instruction) Step {
	return Step{made{pos, do.check()}, do}
}

// Command is a command that runs in the stage.
type Command struct {
	// Shell is given to the stage's shell. Of several lines it is a script, as in a
	// Dockerfile's heredoc; with #! at its beginning it is run as a program.
	Shell string
	// Args is run without a shell. One of Shell and Args has to be set.
	Args []string
	// Mounts are there while the command runs.
	Mounts []Mount
	// Network is "none" or "host"; empty is the build's default. The host's network takes
	// the entitlement network.host.
	Network string
	// Insecure runs without a sandbox, which takes the entitlement security.insecure.
	Insecure bool
}

// MountKind says what a [Mount] mounts.
type MountKind string

// The kinds of mounts.
const (
	// MountBind: files of a source; writes are thrown away.
	MountBind MountKind = "bind"
	// MountCache: a directory that is kept between builds and is no part of the result.
	MountCache MountKind = "cache"
	// MountTmpfs: a directory in memory.
	MountTmpfs MountKind = "tmpfs"
	// MountSecret: a secret of the request, as a file or an environment variable.
	MountSecret MountKind = "secret"
	// MountSSH: an ssh agent of the request.
	MountSSH MountKind = "ssh"
)

// Mount is something that is there while a command runs. Fields which a kind has no use
// for must be empty.
type Mount struct {
	// Kind is MountBind when empty.
	Kind MountKind
	// Target is where it is.
	Target string
	// From is what MountBind mounts, and what a new MountCache begins with; Source is the
	// path in it.
	From   Source
	Source string
	// Writable: the command may write to a MountBind. ReadOnly: it may not to a MountCache.
	Writable, ReadOnly bool
	// ID names a cache, a secret or an agent; a cache's is Target when empty.
	ID string
	// Sharing of a cache is "shared", "private" or "locked"; empty is shared.
	Sharing string
	// Env has a secret in the environment variable of that name instead of a file.
	Env string
	// Required: the build fails where there is no such secret or agent; else the command
	// runs without it.
	Required bool
	// Mode in octal, UID and GID are those of a secret, an agent's socket or a new cache.
	Mode, UID, GID string
	// Size limits a MountTmpfs, as in "64m".
	Size string
}

// Run runs a command.
func Run(c Command) Step { return newStep(caller(), c.clone()) }

// Shell runs a command by the stage's shell: Run(Command{Shell: text}).
func Shell(text string) Step { return newStep(caller(), Command{Shell: text}) }

// Exec runs a program: Run(Command{Args: args}).
func Exec(args ...string) Step { return newStep(caller(), Command{Args: args}.clone()) }

// Files is what a [Copy] copies.
type Files struct {
	// From is where from.
	From Source
	// Src are paths in From, or patterns as COPY has them; none is all of From. A
	// download has none.
	Src []string
	// Dest is where to: a directory when it ends in a slash or several things are copied.
	// It is relative to the working directory of the stage.
	Dest string
	// Chown is the owner, as in "user:group"; Chmod the permissions, as in "0755".
	Chown, Chmod string
	// Link makes a layer that does not depend on those below it.
	Link bool
	// Parents keeps the directories of Src; Exclude are patterns of what is left out.
	Parents bool
	Exclude []string
}

// Copy copies files into the stage.
func Copy(f Files) Step {
	f.Src = append([]string(nil), f.Src...)
	f.Exclude = append([]string(nil), f.Exclude...)
	return newStep(caller(), f)
}

type envStep struct{ name, value string }

// Env sets an environment variable of the steps that follow and of the image.
func Env(name, value string) Step { return newStep(caller(), envStep{name, value}) }

type workdirStep struct{ dir string }

// Workdir makes a directory the working directory of the steps that follow and of the
// image, and creates it.
func Workdir(dir string) Step { return newStep(caller(), workdirStep{dir}) }

type userStep struct{ user string }

// User is who the steps that follow and the image run as: "user", "uid", "user:group".
func User(user string) Step { return newStep(caller(), userStep{user}) }

// Config is a part of the image config; fields that are not set stay as they are.
type Config struct {
	// Labels are added.
	Labels map[string]string
	// Expose are ports, as in "80" or "53/udp", that are added; Volumes directories.
	Expose, Volumes []string
	// StopSignal is what a container is stopped by.
	StopSignal string
	// Shell is what the Shell steps that follow are run by.
	Shell []string
	// Entrypoint and Cmd are what a container runs. An empty list that is not nil takes
	// away the base's.
	Entrypoint, Cmd []string
	// Healthcheck says how to find out whether a container is well.
	Healthcheck *Healthcheck
}

// Healthcheck is a check of running containers. The zero durations and retries are the
// runtime's defaults.
type Healthcheck struct {
	// Args is the command, or Shell one for the shell; neither takes away the base's check.
	Args  []string
	Shell string

	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
}

// Configure sets parts of the image config.
func Configure(c Config) Step { return newStep(caller(), c.clone()) }

func (c Command) reads() []Source {
	var list []Source
	for _, m := range c.Mounts {
		if !isNil(m.From) {
			list = append(list, m.From)
		}
	}
	return list
}

func (f Files) reads() []Source {
	if isNil(f.From) {
		return nil
	}
	return []Source{f.From}
}

func (envStep) reads() []Source     { return nil }
func (workdirStep) reads() []Source { return nil }
func (userStep) reads() []Source    { return nil }
func (Config) reads() []Source      { return nil }

// errNoStep is the mistake of a Step that no function has made.
var errNoStep = errors.New("a step is empty: make steps with Run, Copy and the other functions")
