package dag

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/zlayer-dev/zlayer/graph"
)

// bits are what texts are made of that the syntax of Dockerfiles could trip over.
var bits = []string{
	"a", "b c", "$", "${A}", "$A", "\\", "\"", "'", "`", " ", "\t", "=", ",", "#", "<<EOF", "<<-'X'", "EOF", "[", "]", "[\"a\"]",
	"{", "}", "--flag=x", "-", "\n", "\\\n", "é", "\u2028", "*", "?", "!", ";", "&&", "%", "ZLAYER_NEWLINE", "${ZLAYER_NEWLINE:?}", "\ufeff", ":", "/", "~", "AS", "1",
}

// text makes a text for the field; lines says whether it may have line breaks, ascii
// that it must not have other letters.
func text(r *rand.Rand, lines, ascii bool) string {
	var b strings.Builder
	for range 1 + r.IntN(5) {
		s := bits[r.IntN(len(bits))]
		if !lines && strings.Contains(s, "\n") || ascii && strings.IndexFunc(s, func(c rune) bool { return c > 127 }) >= 0 {
			continue
		}
		b.WriteString(s)
	}
	if b.Len() == 0 {
		return "x"
	}
	return b.String()
}

// parsed is what the instructions of a rendered stage mean, one entry each.
func parsed(t *testing.T, p *Program) []any {
	t.Helper()
	res, err := parser.Parse(bytes.NewReader(p.Text.Dockerfile))
	if err != nil {
		t.Fatalf("%v in\n%s", err, p.Text.Dockerfile)
	}
	stages, _, err := instructions.Parse(res.AST, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, p.Text.Dockerfile)
	}
	lex := shell.NewLex(res.EscapeToken)
	env := (&llb.EnvList{}).AddOrReplace("A", "expanded").AddOrReplace(newlineArg, p.Text.BuildArgs[newlineArg])
	var out []any
	for _, c := range stages[len(stages)-1].Commands {
		if x, ok := c.(instructions.SupportsSingleWordExpansion); ok {
			if err := x.Expand(func(word string) (string, error) {
				s, _, err := lex.ProcessWord(word, env)
				return s, err
			}); err != nil {
				t.Fatalf("%v in\n%s", err, p.Text.Dockerfile)
			}
		}
		if m := meaning(c); m != nil {
			out = append(out, m)
		}
	}
	return out
}

// meaning is the part of an instruction that programs can say.
func meaning(c instructions.Command) any {
	switch c := c.(type) {
	case *instructions.RunCommand:
		run := []any{"run", c.PrependShell, c.CmdLine}
		if len(c.Files) > 0 {
			run[2] = []string{c.Files[0].Data}
		}
		for _, m := range instructions.GetMounts(c) {
			run = append(run, []string{string(m.Type), m.Source, m.Target, m.CacheID, string(m.CacheSharing)})
		}
		return run
	case *instructions.EnvCommand:
		return []string{"env", c.Env[0].Key, c.Env[0].Value}
	case *instructions.WorkdirCommand:
		return []string{"workdir", c.Path}
	case *instructions.UserCommand:
		return []string{"user", c.User}
	case *instructions.CopyCommand:
		return []any{"copy", c.SourcePaths, c.DestPath, c.Chown, c.Chmod, c.ExcludePatterns, c.Link, c.Parents}
	case *instructions.AddCommand:
		return []any{"add", c.SourcePaths, c.DestPath, c.Checksum}
	case *instructions.LabelCommand:
		return []string{"label", c.Labels[0].Key, c.Labels[0].Value}
	case *instructions.VolumeCommand:
		return []any{"volume", c.Volumes}
	case *instructions.CmdCommand:
		return []any{"cmd", c.PrependShell, c.CmdLine}
	case *instructions.EntrypointCommand:
		return []any{"entrypoint", c.PrependShell, c.CmdLine}
	case *instructions.ShellCommand:
		return []any{"shell", c.Shell}
	case *instructions.HealthCheckCommand:
		return []any{"health", c.Health.Test}
	case *instructions.StopSignalCommand:
		return []string{"signal", c.Signal}
	case *instructions.ArgCommand:
		return nil // that of line feeds
	}
	return fmt.Sprintf("%T", c)
}

// randomStep makes a step and what its instruction has to mean.
func randomStep(r *rand.Rand, from Source) (Step, any) {
	word := func() string { return text(r, false, false) }
	long := func() string { return text(r, true, false) }
	ascii := func() string { return text(r, false, true) }
	switch r.IntN(11) {
	case 0:
		s := long()
		want := strings.TrimSpace(s)
		if want == "" {
			return Shell("true"), []any{"run", true, []string{"true"}}
		}
		if !oneLine("RUN "+want, want, 0) {
			want += "\n"
		}
		return Shell(s), []any{"run", true, []string{want}}
	case 1:
		args := []string{long(), long()}
		return Exec(args...), []any{"run", false, args}
	case 2:
		m := Mount{From: from, Source: ascii(), Target: ascii()}
		c := Mount{Kind: MountCache, Target: ascii(), ID: ascii(), Sharing: "private"}
		return Run(Command{Args: []string{"x"}, Mounts: []Mount{m, c}}), []any{"run", false, []string{"x"},
			[]string{"bind", m.Source, m.Target, "", ""}, []string{"cache", "", c.Target, c.ID, "private"}}
	case 3:
		k, v := strings.ReplaceAll(word(), "=", "_"), long()
		if k == newlineArg {
			k = "k"
		}
		return Env(k, v), []string{"env", k, v}
	case 4:
		s := word()
		return Workdir(s), []string{"workdir", s}
	case 5:
		s := word()
		return User(s), []string{"user", s}
	case 6:
		f := Files{From: from, Src: []string{word(), word()}, Dest: word(), Chown: ascii(), Chmod: ascii(), Exclude: []string{ascii()}, Link: true, Parents: r.IntN(2) == 0}
		return Copy(f), []any{"copy", f.Src, f.Dest, f.Chown, f.Chmod, f.Exclude, true, f.Parents}
	case 7:
		k, v := strings.ReplaceAll(word(), "=", "_"), long()
		return Configure(Config{Labels: map[string]string{k: v}}), []string{"label", k, v}
	case 8:
		s := strings.TrimSpace(word()) + "v"
		return Configure(Config{Volumes: []string{s}}), []any{"volume", []string{s}}
	case 9:
		args := []string{long()}
		return Configure(Config{Cmd: args}), []any{"cmd", false, args}
	}
	args := []string{long(), ""}
	return Configure(Config{Healthcheck: &Healthcheck{Args: args}}), []any{"health", append([]string{"CMD"}, args...)}
}

// TestLiteral renders random programs and reads the Dockerfiles as BuildKit does: every
// text comes out as it went in.
func TestLiteral(t *testing.T) {
	for seed := range uint64(3000) {
		checkLiteral(t, rand.New(rand.NewPCG(seed, 1)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func checkLiteral(t *testing.T, r *rand.Rand) {
	t.Helper()
	from := New(Spec{From: Scratch()})
	var steps []Step
	var want []any
	for range 1 + r.IntN(6) {
		s, w := randomStep(r, from)
		steps, want = append(steps, s), append(want, w)
	}
	p, err := Render(New(Spec{From: Image("alpine:3.22"), Steps: steps}))
	if err != nil {
		t.Fatalf("%v", err)
	}
	if diff := cmp.Diff(want, parsed(t, p)); diff != "" {
		t.Errorf("(-want +got)\n%s\n%s", diff, p.Text.Dockerfile)
	}
	if n := strings.Count(string(p.Text.Dockerfile), "\n"); n != len(p.Text.Lines) {
		t.Errorf("%d lines have %d positions", n, len(p.Text.Lines))
	}
}

func FuzzRender(f *testing.F) {
	f.Add("echo", "a b", "$A", "/x", uint8(0))
	f.Add("a\n<<EOF\nEOF", "\\", "\"'", "[", uint8(1))
	f.Add("[\"a\"]", "#!/bin/sh", "\n", "--x", uint8(2))
	f.Fuzz(func(t *testing.T, command, value, word, path string, flags uint8) {
		from := New(Spec{From: Scratch()})
		run := Command{Shell: command, Mounts: []Mount{{From: from, Source: word, Target: path}}}
		env, copied := Env("K", value), Files{From: from, Src: []string{path}, Dest: word, Link: flags&1 != 0, Exclude: []string{word}}
		p, err := Render(New(Spec{From: Image("alpine"), Steps: []Step{env, Run(run), Copy(copied), Configure(Config{Cmd: []string{command, value}})}}))
		if err != nil {
			var pe *graph.PosError
			if !errors.As(err, &pe) || filepath.Base(pe.Pos.File) != "property_test.go" {
				t.Errorf("no place: %v", err)
			}
			return
		}
		got := parsed(t, p)
		want := strings.TrimSpace(command)
		if run, ok := got[1].([]any); !ok || strings.TrimSuffix(run[2].([]string)[0], "\n") != want {
			t.Errorf("the command is %q, want %q", got[1], want)
		}
		if diff := cmp.Diff([]any{[]string{"env", "K", value}, []any{"copy", copied.Src, word, "", "", []string{word}, copied.Link, false}, []any{"cmd", false, []string{command, value}}},
			slices.Delete(got, 1, 2)); diff != "" {
			t.Errorf("(-want +got)\n%s\n%s", diff, p.Text.Dockerfile)
		}
	})
}
