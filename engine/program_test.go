package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/zlayer-dev/zlayer/dag"
)

// pair is a program and the build file that says the same.
type pair struct {
	name  string
	stage func(dir string) *dag.Stage
	file  string
}

func pairs() []pair {
	bb := func(dir string) *dag.Stage {
		return dag.New(dag.Spec{Name: "base", From: dag.Scratch(), Steps: []dag.Step{
			dag.Copy(dag.Files{From: dag.Local(dir), Src: []string{"busybox"}, Dest: "/bin/busybox"}),
			dag.Exec("/bin/busybox", "--install", "/bin"),
		}})
	}
	on := func(steps ...dag.Step) func(dir string) *dag.Stage {
		return func(dir string) *dag.Stage { return dag.New(dag.Spec{From: bb(dir), Steps: steps}) }
	}
	return []pair{
		{"base", bb, base},
		{"run", on(dag.Shell("echo hi > /a"), dag.Shell("set -e\necho x\n")), base + "FROM base\nRUN echo hi > /a\nRUN <<EOF\nset -e\necho x\nEOF\n"},
		{"env", on(dag.Env("A", "b c"), dag.Env("D", "$A"), dag.Shell("env")), base + "FROM base\nENV A=\"b c\"\nENV D=\\$A\nRUN env\n"},
		{"meta", on(dag.Workdir("/w"), dag.User("1:2"), dag.Configure(dag.Config{
			Labels: map[string]string{"l": "v"}, Expose: []string{"80"}, Volumes: []string{"/v"}, StopSignal: "SIGINT",
			Healthcheck: &dag.Healthcheck{Shell: "true"}, Entrypoint: []string{"a"}, Cmd: []string{"b", "c"},
		})), base + "FROM base\nWORKDIR /w\nUSER 1:2\nLABEL l=v\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL SIGINT\nHEALTHCHECK CMD true\nENTRYPOINT [\"a\"]\nCMD [\"b\", \"c\"]\n"},
		{"copy", func(dir string) *dag.Stage {
			tree := dag.Local(dir)
			one := dag.New(dag.Spec{From: bb(dir), Steps: []dag.Step{dag.Copy(dag.Files{From: tree, Src: []string{"src"}, Dest: "/src/"})}})
			return dag.New(dag.Spec{From: dag.Scratch(), Steps: []dag.Step{
				dag.Copy(dag.Files{From: one, Src: []string{"/src"}, Dest: "/out/", Chmod: "0700", Chown: "3:4"}),
				dag.Copy(dag.Files{From: tree, Dest: "/all/", Exclude: []string{"busybox"}, Link: true}),
			}})
		}, base + "FROM base AS one\nCOPY src /src/\nFROM scratch\nCOPY --from=one --chmod=0700 --chown=3:4 /src /out/\nCOPY --link --exclude=busybox . /all/\n"},
		{"mounts", func(dir string) *dag.Stage {
			return dag.New(dag.Spec{From: bb(dir), Steps: []dag.Step{dag.Run(dag.Command{Shell: "ls /m /c", Mounts: []dag.Mount{
				{From: dag.Local(dir), Source: "src", Target: "/m"},
				{Kind: dag.MountCache, Target: "/c", ID: "x", Sharing: "locked"},
				{Kind: dag.MountTmpfs, Target: "/t", Size: "1m"},
				{Kind: dag.MountSecret, ID: "s"},
				{From: bb(dir), Target: "/b", Writable: true},
			}})}})
		}, base + "FROM base\nRUN --mount=source=src,target=/m --mount=type=cache,target=/c,id=x,sharing=locked --mount=type=tmpfs,target=/t,size=1m --mount=type=secret,id=s --mount=from=base,target=/b,rw ls /m /c\n"},
	}
}

// TestProgramKeys compares the keys of programs with those of build files that say the
// same.
func TestProgramKeys(t *testing.T) {
	for _, p := range pairs() {
		t.Run(p.name, func(t *testing.T) {
			dir := project(t, map[string]string{"Dockerfile": p.file, "src/a": "a", "src/b/c": "c", ".dockerignore": "Dockerfile\n.dockerignore\n"})
			if err := os.WriteFile(filepath.Join(dir, "busybox"), []byte("x"), 0o755); err != nil {
				t.Fatal(err)
			}
			e, err := Open(t.Context(), Config{StateDir: t.TempDir(), StoreDir: t.TempDir(), NoDaemon: true})
			if err != nil {
				t.Fatal(err)
			}
			want := keysOf(t, e, Request{Context: dir})
			got := keysOf(t, e, Request{Stage: p.stage(dir)})
			if want.base == "" || got.base != want.base {
				t.Errorf("the program has the key %s (%v), the build file %s (%v)", got.base, got.why, want.base, want.why)
			}
			if len(got.graph.Stages()) != len(want.graph.Stages()) {
				t.Errorf("the program has %d stages, the build file %d", len(got.graph.Stages()), len(want.graph.Stages()))
			}
			for _, s := range got.graph.Stages() {
				if filepath.Base(s.Pos.File) != "program_test.go" || s.Pos.Line == 0 {
					t.Errorf("stage %s is at %s", s.Name, s.Pos)
				}
				for _, st := range s.Steps {
					if !st.Pos.IsZero() && filepath.Base(st.Pos.File) != "program_test.go" {
						t.Errorf("step %s is at %s", st.Name, st.Pos)
					}
				}
			}
		})
	}
}

// keysOf compiles a request without a daemon.
func keysOf(t *testing.T, e *Engine, req Request) *keys {
	t.Helper()
	req.Outputs = []Output{{Type: OutputCacheOnly}}
	r, err := e.newRun(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.close() })
	j, err := r.prepare(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.close() })
	k, err := j.compileKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k
}
