package dag

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

func mistake(format string, args ...any) error { return fmt.Errorf(format, args...) }

// checkText refuses what no instruction can hold.
func checkText(what, s string, lines bool) error {
	switch {
	case !utf8.ValidString(s):
		return mistake("%s %q is not UTF-8", what, s)
	case strings.ContainsRune(s, 0):
		return mistake("%s %q has a zero byte", what, s)
	case !lines && strings.ContainsAny(s, "\n\r"):
		return mistake("%s %q has a line break", what, s)
	}
	return nil
}

// checkFlag is checkText for what is written into a flag, of which BuildKit reads bytes
// for letters.
func checkFlag(what, s string) error {
	if i := strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }); i >= 0 {
		return mistake("%s %q has letters that are not ASCII, which BuildKit cannot read there", what, s)
	}
	return checkText(what, s, false)
}

func checkPatterns(t Tree) error {
	for _, p := range slices.Concat(t.Include, t.Exclude) {
		if p == "" || strings.TrimSpace(p) != p || strings.HasPrefix(p, "#") || checkText("", p, false) != nil {
			return mistake("pattern %q: a pattern is one line of an ignore file, without spaces around it", p)
		}
	}
	for _, p := range t.Include {
		if strings.HasPrefix(p, "!") {
			return mistake("pattern %q of Include is an exception: put it into Exclude", p)
		}
	}
	list, err := ignorefile.ReadAll(bytes.NewReader(t.Rules(nil)))
	if err == nil {
		_, err = patternmatcher.New(list)
	}
	return err
}

// commitOrName is what a Ref of a repository may be.
var commitOrName = lazyregexp.New(`^[^\s:#?~^\\]+$`)

func (r Repo) check() error {
	if r.URL == "" {
		return errors.New("no repository is given")
	}
	if strings.ContainsAny(r.URL, "#?") {
		return mistake("repository %q: put what follows # or ? into the other fields", r.URL)
	}
	if r.Ref != "" && !commitOrName().MatchString(r.Ref) {
		return mistake("git reference %q is no branch, tag or commit", r.Ref)
	}
	if err := checkText("subdirectory", r.Subdir, false); err != nil {
		return err
	}
	if _, ok, err := dfgitutil.ParseGitRef(r.address()); !ok || err != nil {
		return mistake("repository %q is no address of a git repository: web addresses end in .git", r.URL)
	}
	return nil
}

// address is the repository as a build context has it.
func (r Repo) address() string {
	switch {
	case r.Subdir != "":
		return r.URL + "#" + r.Ref + ":" + r.Subdir
	case r.Ref != "":
		return r.URL + "#" + r.Ref
	}
	// A fragment says what it is where the end of the address does not.
	return r.URL
}

func (d Download) check() error {
	u, err := url.Parse(d.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return mistake("%q is no http or https address", d.URL)
	}
	if d.Checksum != "" {
		if err := d.Checksum.Validate(); err != nil {
			return mistake("checksum %q: %w", d.Checksum, err)
		}
	}
	return checkText("the address", d.URL, false)
}

func (c Command) check() error {
	var errs []error
	switch {
	case strings.TrimSpace(c.Shell) == "" && len(c.Args) == 0:
		errs = append(errs, errors.New("there is no command to run"))
	case c.Shell != "" && len(c.Args) > 0:
		errs = append(errs, errors.New("a command is either one for the shell or a list of arguments, not both"))
	}
	errs = append(errs, checkText("the command", c.Shell, true))
	for _, a := range c.Args {
		errs = append(errs, checkText("argument", a, true))
	}
	if !slices.Contains([]string{"", "default", "none", "host"}, c.Network) {
		errs = append(errs, mistake("network %q is none of default, none and host", c.Network))
	}
	for _, m := range c.Mounts {
		errs = append(errs, m.check())
	}
	return errors.Join(errs...)
}

// mountFields says which fields a kind of mount has beside the target.
var mountFields = map[MountKind][]string{
	MountBind:   {"from", "source", "writable"},
	MountCache:  {"from", "source", "readonly", "id", "sharing", "mode", "uid", "gid"},
	MountTmpfs:  {"size"},
	MountSecret: {"id", "env", "required", "mode", "uid", "gid"},
	MountSSH:    {"id", "required", "mode", "uid", "gid"},
}

func (m Mount) kind() MountKind {
	if m.Kind == "" {
		return MountBind
	}
	return m.Kind
}

func (m Mount) check() error {
	fields, ok := mountFields[m.kind()]
	if !ok {
		return mistake("mount kind %q is none of bind, cache, tmpfs, secret and ssh", m.Kind)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"from", !isNil(m.From)}, {"source", m.Source != ""}, {"writable", m.Writable}, {"readonly", m.ReadOnly},
		{"id", m.ID != ""}, {"sharing", m.Sharing != ""}, {"env", m.Env != ""}, {"required", m.Required},
		{"mode", m.Mode != ""}, {"uid", m.UID != ""}, {"gid", m.GID != ""}, {"size", m.Size != ""},
	} {
		if f.set && !slices.Contains(fields, f.name) {
			return mistake("a mount of kind %s has no %s", m.kind(), f.name)
		}
	}
	switch k := m.kind(); {
	case k == MountBind && isNil(m.From):
		return errors.New("a mount of kind bind needs From")
	case k == MountSecret && m.ID == "":
		return errors.New("a mount of kind secret needs an ID")
	case m.Target == "" && k != MountSecret && k != MountSSH:
		return mistake("a mount of kind %s needs a Target", k)
	}
	if !isNil(m.From) {
		if _, ok := m.From.(httpSource); ok {
			return errors.New("a download cannot be mounted: copy it into a stage and mount that")
		}
	}
	for _, s := range []string{m.Target, m.Source, m.ID, m.Sharing, m.Env, m.Mode, m.UID, m.GID, m.Size} {
		if err := checkFlag("mount field", s); err != nil {
			return err
		}
	}
	return nil
}

func (f Files) check() error {
	var errs []error
	_, download := f.From.(httpSource)
	switch {
	case isNil(f.From):
		errs = append(errs, errors.New("From is missing: what is to be copied from"))
	case download && (len(f.Src) > 0 || f.Parents || len(f.Exclude) > 0):
		errs = append(errs, errors.New("a download is one file: it has no Src, Parents and Exclude"))
	}
	if s, ok := f.From.(imageSource); ok && s.ref == scratch {
		errs = append(errs, errors.New("there is nothing in Scratch() to copy"))
	}
	for _, p := range append([]string{f.Dest}, f.Src...) {
		if p == "" {
			errs = append(errs, errors.New("a path is empty: name what to copy, and where to"))
		}
		errs = append(errs, checkText("path", p, false))
	}
	errs = append(errs, checkFlag("owner", f.Chown), checkFlag("mode", f.Chmod))
	for _, p := range f.Exclude {
		errs = append(errs, checkFlag("pattern", p))
		if p == "" {
			errs = append(errs, errors.New("a pattern of Exclude is empty"))
		}
	}
	return errors.Join(errs...)
}

func (e envStep) check() error {
	if e.name == "" || strings.Contains(e.name, "=") {
		return mistake("environment variable %q: a name is not empty and has no =", e.name)
	}
	if e.name == newlineArg {
		return mistake("environment variable %s is zlayer's own: take another name", e.name)
	}
	return errors.Join(checkText("environment variable", e.name, false), checkText("value", e.value, true))
}

func (w workdirStep) check() error {
	if w.dir == "" {
		return errors.New("the working directory is empty")
	}
	return checkText("directory", w.dir, false)
}

func (u userStep) check() error {
	if u.user == "" {
		return errors.New("the user is empty")
	}
	return checkText("user", u.user, false)
}

// port is what Expose takes.
var port = lazyregexp.New(`^[0-9]+(-[0-9]+)?(/(tcp|udp|sctp))?$`)

func (c Config) check() error {
	var errs []error
	for k, v := range c.Labels {
		if k == "" || strings.Contains(k, "=") {
			errs = append(errs, mistake("label %q: a name is not empty and has no =", k))
		}
		errs = append(errs, checkText("label", k, false), checkText("label", v, true))
	}
	for _, p := range c.Expose {
		if !port().MatchString(p) {
			errs = append(errs, mistake("port %q is not of the form 80, 80/udp or 80-90", p))
		}
	}
	for _, v := range c.Volumes {
		if strings.TrimSpace(v) == "" {
			errs = append(errs, errors.New("a volume is empty"))
		}
		errs = append(errs, checkText("volume", v, false))
	}
	errs = append(errs, checkText("signal", c.StopSignal, false))
	for _, s := range slices.Concat(c.Shell, c.Entrypoint, c.Cmd) {
		errs = append(errs, checkText("argument", s, true))
	}
	if c.Shell != nil && len(c.Shell) == 0 {
		errs = append(errs, errors.New("the shell is empty"))
	}
	if c.Healthcheck != nil {
		errs = append(errs, c.Healthcheck.check())
	}
	return errors.Join(errs...)
}

func (h Healthcheck) check() error {
	var errs []error
	if len(h.Args) > 0 && h.Shell != "" {
		errs = append(errs, errors.New("a health check is either one for the shell or a list of arguments, not both"))
	}
	if h.none() && (h.Interval != 0 || h.Timeout != 0 || h.StartPeriod != 0 || h.StartInterval != 0 || h.Retries != 0) {
		errs = append(errs, errors.New("a health check has times and no command"))
	}
	errs = append(errs, checkText("health check", h.Shell, false))
	for _, a := range h.Args {
		errs = append(errs, checkText("argument", a, true))
	}
	if h.Retries < 0 {
		errs = append(errs, mistake("%d retries of a health check", h.Retries))
	}
	return errors.Join(errs...)
}

// none: there is to be no health check.
func (h Healthcheck) none() bool { return len(h.Args) == 0 && strings.TrimSpace(h.Shell) == "" }
