package dag_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/client/llb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/dag"
	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/graph"
)

// A stage that starts from nothing, with a file of this machine and a command.
func ExampleNew() {
	tools := dag.New(dag.Spec{
		Name: "tools",
		From: dag.Scratch(),
		Steps: []dag.Step{
			dag.Copy(dag.Files{From: dag.Local("/bin"), Src: []string{"busybox"}, Dest: "/bin/busybox"}),
			dag.Exec("/bin/busybox", "--install", "/bin"),
			dag.Shell("echo hello > /greeting"),
		},
	})
	res, err := e.Build(context.Background(), engine.Request{Stage: tools, Tags: []string{"example/tools"}})
	if err != nil {
		panic(err)
	}
	fmt.Println(res.Tags[0], len(res.Graph.Stages()), "stage")
	// Prints: docker.io/example/tools:latest 1 stage
}

// Several images in one call. The base is one stage of one graph, built once; the
// second call finds that nothing has to be done.
func ExampleStage() {
	base := dag.New(dag.Spec{From: busybox(), Steps: []dag.Step{dag.Shell("echo slow > /lib")}})
	build := func() {
		var req engine.BatchRequest
		for _, name := range []string{"api", "web"} {
			svc := dag.New(dag.Spec{
				Name: name,
				From: base,
				Steps: []dag.Step{
					dag.Env("SERVICE", name),
					dag.Configure(dag.Config{Cmd: []string{"/bin/" + name}}),
				},
			})
			req.Builds = append(req.Builds, engine.BatchBuild{NamedRequest: engine.NamedRequest{
				Name:    name,
				Request: engine.Request{Stage: svc, Tags: []string{"example/" + name}},
			}})
		}
		res, err := e.BuildAll(context.Background(), req)
		if err != nil {
			panic(err)
		}
		for _, img := range res.Images {
			fmt.Println(img.Name, img.State)
		}
	}
	build()
	build()
	// Prints:
	// api built
	// web built
	// api unchanged
	// web unchanged
}

// Files out of another stage, which is not part of the image.
func ExampleCopy() {
	compiled := dag.New(dag.Spec{
		From:  busybox(),
		Steps: []dag.Step{dag.Shell("mkdir -p /out/lib; echo program > /out/app; echo library > /out/lib/so")},
	})
	image := dag.New(dag.Spec{
		From:  dag.Scratch(),
		Steps: []dag.Step{dag.Copy(dag.Files{From: compiled, Src: []string{"/out/"}, Dest: "/", Chmod: "0755"})},
	})
	fmt.Println(files(image))
	// Prints: app lib/so
}

// A command with files of another stage, a cache, and a secret of the request.
func ExampleRun() {
	sources := dag.New(dag.Spec{From: busybox(), Steps: []dag.Step{dag.Shell("echo source > /main.c")}})
	stage := dag.New(dag.Spec{
		From: busybox(),
		Steps: []dag.Step{dag.Run(dag.Command{
			Shell: "cat /src/main.c /run/secrets/token > /result; echo object > /cache/main.o",
			Mounts: []dag.Mount{
				{From: sources, Target: "/src"},
				{Kind: dag.MountCache, Target: "/cache", Sharing: "locked"},
				{Kind: dag.MountSecret, ID: "token", Required: true},
			},
		})},
	})
	fmt.Println(file(stage, "result", engine.Secret{ID: "token", Value: []byte("secret")}))
	// Prints: source secret
}

// Texts are literal.
func ExampleEnv() {
	stage := dag.New(dag.Spec{
		From: busybox(),
		Steps: []dag.Step{
			dag.Env("PRICE", `5 $ "or so"`),
			dag.Shell(`echo "$PRICE" > /price`), // expanded by the shell that runs it
		},
	})
	fmt.Println(file(stage, "price"))
	// Prints: 5 $ "or so"
}

// A script of several lines.
func ExampleShell() {
	stage := dag.New(dag.Spec{From: busybox(), Steps: []dag.Step{dag.Shell(`
		set -e
		for i in 1 2 3; do
			echo $i
		done > /numbers
	`)}})
	fmt.Println(file(stage, "numbers"))
	// Prints: 1 2 3
}

// A part of a directory.
func ExampleLocalTree() {
	dir := project(map[string]string{"go.mod": "", "main.go": "", "main_test.go": "", "README": "", "web/page.html": ""})
	stage := dag.New(dag.Spec{From: dag.Scratch(), Steps: []dag.Step{dag.Copy(dag.Files{
		From: dag.LocalTree(dag.Tree{Dir: dir, Include: []string{"*.go", "go.mod", "web"}, Exclude: []string{"*_test.go"}}),
		Dest: "/",
	})}})
	fmt.Println(files(stage))
	// Prints: go.mod main.go web/page.html
}

// A stage on top of what the build file of a directory gives.
func ExampleBuild() {
	dir := project(map[string]string{
		"Dockerfile": "ARG NAME\nFROM scratch\nARG NAME\nCOPY data /${NAME}\n",
		"data":       "nested",
	})
	stage := dag.New(dag.Spec{
		From:  dag.Build(dag.Nested{Dir: dir, Args: map[string]string{"NAME": "copied"}}),
		Steps: []dag.Step{dag.Configure(dag.Config{Labels: map[string]string{"from": "go"}})},
	})
	fmt.Println(file(stage, "copied"))
	// Prints: nested
}

// Any state of BuildKit's Go API.
func ExampleLLB() {
	dir := project(map[string]string{"data": "from a directory"})
	state := llb.Scratch().
		File(llb.Mkfile("/made", 0o644, []byte("made"))).
		File(llb.Copy(llb.Local("files"), "data", "/data"))
	stage := dag.New(dag.Spec{
		From:  dag.LLB(dag.State{State: state, Locals: map[string]string{"files": dir}}),
		Steps: []dag.Step{dag.Workdir("/work")},
	})
	fmt.Println(files(stage))
	fmt.Println(file(stage, "data"))
	// Prints:
	// data made
	// from a directory
}

// A download with a checksum is fetched once.
func ExampleHTTP() {
	const text = "release 1.2"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
	defer s.Close()
	stage := dag.New(dag.Spec{From: dag.Scratch(), Steps: []dag.Step{dag.Copy(dag.Files{
		From: dag.HTTP(dag.Download{URL: s.URL + "/release", Checksum: digest.FromString(text)}),
		Dest: "/release",
	})}})
	fmt.Println(file(stage, "release"))
	// Prints: release 1.2
}

// The image config.
func ExampleConfigure() {
	stage := dag.New(dag.Spec{From: dag.Scratch(), Steps: []dag.Step{
		dag.Workdir("/srv"),
		dag.User("1000"),
		dag.Configure(dag.Config{
			Labels:     map[string]string{"team": "a"},
			Expose:     []string{"8080"},
			Entrypoint: []string{"/srv/run"},
			Cmd:        []string{"--serve"},
		}),
	}})
	_, err := e.Build(context.Background(), engine.Request{Stage: stage, Tags: []string{"example/config"}})
	if err != nil {
		panic(err)
	}
	images, err := e.Store()
	if err != nil {
		panic(err)
	}
	in, err := images.Inspect(context.Background(), "example/config")
	if err != nil {
		panic(err)
	}
	c := in.Images[0].Config.Config
	fmt.Println(c.Entrypoint, c.Cmd, c.WorkingDir, c.User, c.Labels["team"])
	// Prints: [/srv/run] [--serve] /srv 1000 a
}

// A step that fails is reported with its line in the program.
func ExampleStage_Pos() {
	stage := dag.New(dag.Spec{From: busybox(), Steps: []dag.Step{
		dag.Shell("exit 3"),
	}})
	_, err := e.Build(context.Background(), engine.Request{Stage: stage})
	line := stage.Pos().Line + 1
	fmt.Println(strings.HasPrefix(err.Error(), fmt.Sprintf("example_test.go:%d: ", line)), strings.Contains(err.Error(), "exit code: 3"))
	// Prints: true true
}

// What a program stands for.
func ExampleRender() {
	tools := dag.New(dag.Spec{Name: "tools", From: dag.Image("alpine:3.22"), Steps: []dag.Step{dag.Shell("apk add git")}})
	app := dag.New(dag.Spec{
		From: tools,
		Steps: []dag.Step{
			dag.Copy(dag.Files{From: dag.Image("example/assets"), Src: []string{"/my files"}, Dest: "/srv/"}),
			dag.Env("PRICE", "5 $"),
			dag.Configure(dag.Config{Cmd: []string{"/bin/sh"}}),
		},
	})
	p, err := dag.Render(app)
	if err != nil {
		panic(err)
	}
	fmt.Print(string(p.Text.Dockerfile))
	// Output:
	// # check=skip=FromPlatformFlagConstDisallowed
	// FROM alpine:3.22 AS tools
	// RUN apk add git
	// FROM tools AS stage-1
	// COPY --from=example/assets ["\"/my files\"", "/srv/"]
	// ENV PRICE="5 \$"
	// CMD ["/bin/sh"]
}

// All mistakes are reported at once, with their lines.
func Example_mistakes() {
	stage := dag.New(dag.Spec{
		From: dag.Image("not an image"),
		Steps: []dag.Step{
			dag.Copy(dag.Files{From: dag.Local("."), Src: []string{"a"}}),
			dag.Configure(dag.Config{Expose: []string{"http"}}),
		},
	})
	_, err := dag.Render(stage)
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		var at *graph.PosError
		if !errors.As(err, &at) {
			panic(err)
		}
		fmt.Printf("%s:+%d: %v\n", filepath.Base(at.Pos.File), at.Pos.Line-stage.Pos().Line, at.Err)
	}
	// Output:
	// example_test.go:+3: a path is empty: name what to copy, and where to
	// example_test.go:+4: port "http" is not of the form 80, 80/udp or 80-90
	// example_test.go:+1: image "not an image": invalid reference format
}

// busybox is a stage with a shell, made from the program of this machine.
func busybox() *dag.Stage {
	return dag.New(dag.Spec{From: dag.Scratch(), Steps: []dag.Step{
		dag.Copy(dag.Files{From: dag.Local("/bin"), Src: []string{"busybox"}, Dest: "/bin/busybox"}),
		dag.Exec("/bin/busybox", "--install", "/bin"),
	}})
}

// project writes files into a new directory.
func project(files map[string]string) string {
	dir, err := os.MkdirTemp(scratchDir, "project-")
	if err != nil {
		panic(err)
	}
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			panic(err)
		}
	}
	return dir
}

// export builds a stage and gives the directory that has its files.
func export(stage *dag.Stage, secrets ...engine.Secret) string {
	out, err := os.MkdirTemp(scratchDir, "out-")
	if err != nil {
		panic(err)
	}
	_, err = e.Build(context.Background(), engine.Request{
		Stage:   stage,
		Secrets: secrets,
		Outputs: []engine.Output{{Type: engine.OutputLocal, Dest: out}},
	})
	if err != nil {
		panic(err)
	}
	return out
}

// file builds a stage and gives one of its files, on one line.
func file(stage *dag.Stage, name string, secrets ...engine.Secret) string {
	text, err := os.ReadFile(filepath.Join(export(stage, secrets...), name))
	if err != nil {
		panic(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// files builds a stage and lists its files.
func files(stage *dag.Stage) string {
	out := export(stage)
	var list []string
	err := filepath.WalkDir(out, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(out, path)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	return strings.Join(list, " ")
}
