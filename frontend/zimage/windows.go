package zimage

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// errWindows is why a Windows image cannot be built.
var errWindows = errors.New("this builds a Windows image, which needs a BuildKit daemon on a Windows node: the daemon builds Linux images only")

// CheckWindows checks the rules for Windows content: that no command of a stage on nanoserver, or
// on a stage that is, calls a package manager that nanoserver does not have, and that no Windows
// stage starts from scratch. Variables of base images are expanded with the defaults of the file
// and with buildArgs. All violations are reported, see [yamlfile.Errors].
func CheckWindows(f *File, buildArgs map[string]string) error {
	c := newConverter(f, Options{BuildArgs: buildArgs})
	c.checkWindows(c.list)
	return c.Err()
}

// windowsStage is what the rules look at.
type windowsStage struct {
	name, base string
	built      bool // it is based on a nested build that it names itself
	parent     int  // the stage it is based on, -1 for an image
	root       int  // the stage at the end of that chain
	platform   string
	own        bool // the platform is the stage's own, rather than that of the whole build
	bottom     *Bottom
	pos        graph.Pos
	runs       []windowsRun
	reads      []string // what a stage of a Dockerfile copies from and mounts
}

type windowsRun struct {
	shell string
	exec  []string
	pos   graph.Pos
	env   *graph.Pos // of the variables that stand beside the command
}

// windowsStages lists the stages of the file.
func (c *converter) windowsStages() []windowsStage {
	f := c.file
	stages := f.Stages
	if f.Mode() == ModeSingle {
		stages = []Stage{{Pos: c.top(), Base: f.Base, Build: f.Build, Steps: f.Steps, Platform: f.Platform, OS: f.OS}}
	}
	var list []windowsStage
	for i := range stages {
		st := &stages[i]
		w := windowsStage{name: st.Name, built: st.Build != nil, parent: -1, pos: st.Pos, own: true}
		platform, os := st.Platform, st.OS
		if platform == nil && os == nil {
			platform, os = f.Platform, f.OS
			w.own = platform != nil || os != nil
			if c.opt.Platform != "" {
				platform, os, w.own, w.platform = nil, nil, false, c.opt.Platform
			}
		}
		if os != nil {
			w.platform = os.Value
		} else if platform != nil {
			w.platform = platform.Value
		}
		if st.Base != nil {
			w.base, _, _ = evaluate(st.Base.Value, c.args)
			if j := c.index.named(st.Base.Value); j >= 0 && j < i {
				w.parent = j
			}
		}
		for n := range st.Steps {
			if s := &st.Steps[n]; s.Run != nil {
				r := windowsRun{shell: s.Run.Shell, exec: s.Run.Exec, pos: s.Pos}
				if len(s.Env) > 0 {
					at := s.at("env", s.Pos)
					r.env = &at
				}
				w.runs = append(w.runs, r)
			}
		}
		list = append(list, w)
	}
	return follow(list)
}

// follow finds the roots of the stages, of which each comes after the one it is based on.
func follow(list []windowsStage) []windowsStage {
	for i := range list {
		list[i].root = i
		if p := list[i].parent; p >= 0 {
			list[i].root = list[p].root
		}
	}
	return list
}

// isWindows reports whether the i-th stage is one of Windows.
func isWindows(list []windowsStage, i int) bool {
	i = list[i].root
	if b := list[i].bottom; b != nil {
		return b.Windows()
	}
	return isOS(list[i].platform, "windows") || windowsImage(list[i].base)
}

// isWindows reports whether a stage that is being converted is one of Windows.
func (c *converter) isWindows() bool {
	i := len(c.done)
	return i < len(c.list) && isWindows(c.list, i)
}

// isNested reports whether a stage that is being converted stands on a nested build.
func (c *converter) isNested() bool {
	i := len(c.done)
	return i < len(c.list) && c.list[c.list[i].root].built
}

// windowsImage reports whether a reference is one of Microsoft's base images.
func windowsImage(ref string) bool {
	repo := repository(ref)
	return strings.Contains(repo, "nanoserver") || strings.Contains(repo, "windows/servercore") || strings.HasPrefix(repo, "windows/server")
}

// repository is the path of a reference without registry, tag and digest, in lower case.
func repository(ref string) string {
	ref, _, _ = strings.Cut(strings.ToLower(ref), "@")
	if host, rest, ok := strings.Cut(ref, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		ref = rest
	}
	ref, _, _ = strings.Cut(ref, ":")
	return ref
}

// windows checks the rules, and whether the file can be built here at all.
func (c *converter) windows() {
	list := c.list
	c.checkWindows(list)
	if c.opt.Windows {
		return
	}
	if i := c.needsWindows(list); i >= 0 {
		c.Fail(list[i].pos, errWindows)
		return
	}
	if f := c.file; f.Mode() == ModeRuntime && f.OS != nil && f.OS.Value == "windows" {
		c.Fail(f.OS.Pos, errWindows)
	}
}

// needsWindows finds a stage that only a daemon on Windows can build, -1 for none. The last stage of
// a file is what comes out of it.
func (c *converter) needsWindows(list []windowsStage) int {
	for i := range list {
		if isWindows(list, i) && (i == len(list)-1 || len(list[i].runs) > 0) {
			return i
		}
	}
	return -1
}

// checkWindows checks the rules for Windows content.
func (c *converter) checkWindows(list []windowsStage) {
	for i := range list {
		c.checkWindowsStage(list, i)
	}
}

func (c *converter) checkWindowsStage(list []windowsStage, i int) {
	st, root := &list[i], &list[list[i].root]
	if strings.EqualFold(root.base, "scratch") && isOS(st.platform, "windows") {
		c.Errorf(st.pos, "a Windows image cannot start from scratch: it needs at least nanoserver")
		return
	}
	if !isWindows(list, i) {
		return
	}
	nano := strings.Contains(repository(root.image()), "nanoserver")
	for n, r := range st.runs {
		for _, tool := range programs(r.shell, r.exec, 0) {
			switch {
			case nano && (tool == "choco" || tool == "winget"):
				c.Errorf(r.pos, "%s cannot run here: %s is nanoserver, which has no package manager. Use servercore, or install in a servercore stage and copy the result. Offending RUN instruction #%d", tool, root.shownBase(), n)
			case tool == "apt" || tool == "apt-get" || tool == "apk" || tool == "yum" || tool == "dnf":
				c.warn(r.pos, "%s is a package manager of Linux, and this stage is one of Windows", tool)
			}
		}
	}
}

// isOS reports whether a platform is one of an operating system.
func isOS(platform, os string) bool {
	of, _, _ := strings.Cut(platform, "/")
	return strings.EqualFold(of, os)
}

// programs lists the programs that a command line calls, as far as its text shows: every command
// of a chain, and what cmd and powershell are told to run. Names are in lower case, without folder
// and extension.
func programs(shell string, exec []string, depth int) []string {
	if depth > 4 {
		return nil
	}
	var out []string
	chains := [][]string{exec}
	if exec == nil {
		chains = splitCommands(shell)
	}
	for _, words := range chains {
		if len(words) == 0 {
			continue
		}
		name := strings.ToLower(path.Base(strings.ReplaceAll(words[0], `\`, "/")))
		for _, ext := range []string{".exe", ".cmd", ".bat"} {
			name = strings.TrimSuffix(name, ext)
		}
		out = append(out, name)
		if inner, ok := payload(name, words[1:]); ok {
			out = append(out, programs(inner, nil, depth+1)...)
		}
	}
	return out
}

// payload is the command line that a shell is told to run.
func payload(shell string, args []string) (string, bool) {
	for i := 0; i < len(args); i++ {
		arg := strings.ToLower(args[i])
		switch shell {
		case "cmd":
			if arg == "/c" || arg == "/k" {
				return requote(args[i+1:]), true
			}
			if !strings.HasPrefix(arg, "/") {
				return "", false
			}
		case "powershell", "pwsh":
			switch {
			case arg == "-command" || arg == "-c":
				return requote(args[i+1:]), true
			case arg == "-executionpolicy" || arg == "-ep" || arg == "-version":
				i++
			case arg == "-file" || arg == "-f":
				return "", false
			case !strings.HasPrefix(arg, "-"):
				return requote(args[i:]), true
			}
		default:
			return "", false
		}
	}
	return "", false
}

// requote joins words to a line that comes apart into the same words, except that a single one
// with blanks is a line itself.
func requote(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	var out []string
	for _, w := range words {
		if strings.ContainsAny(w, " \t") {
			w = strconv.Quote(w)
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

// splitCommands takes a command line apart into commands and those into words. Quotes protect
// blanks and separators.
func splitCommands(line string) [][]string {
	var all [][]string
	var words []string
	var word strings.Builder
	inWord := false
	endWord := func() {
		if inWord {
			words = append(words, word.String())
			word.Reset()
			inWord = false
		}
	}
	endCommand := func() {
		endWord()
		if words != nil {
			all = append(all, words)
			words = nil
		}
	}
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		ch := line[i]
		switch {
		case quote == '"' && ch == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\'):
			i++
			word.WriteByte(line[i])
		case quote != 0 && ch == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(ch)
		case ch == '"' || ch == '\'':
			quote, inWord = ch, true
		case ch == ' ' || ch == '\t' || ch == '\r':
			endWord()
		case strings.IndexByte("&|;\n()", ch) >= 0:
			endCommand()
		default:
			word.WriteByte(ch)
			inWord = true
		}
	}
	endCommand()
	return all
}
