package main

import (
	"path/filepath"

	"github.com/zlayer-dev/zlayer/dag"
)

// tools is what all services are based on: a stage of one graph, built once.
func tools() *dag.Stage {
	return dag.New(dag.Spec{
		Name: "tools",
		From: dag.Scratch(),
		Steps: []dag.Step{
			dag.Copy(dag.Files{From: dag.Local("/bin"), Src: []string{"busybox"}, Dest: "/bin/busybox"}),
			dag.Exec("/bin/busybox", "--install", "/bin"),
		},
	})
}

// service is the image of one service: compiled in a stage of its own, of which it has
// the program.
func service(dir, name string) *dag.Stage {
	compiled := dag.New(dag.Spec{
		Name: "compile",
		From: tools(),
		Steps: []dag.Step{
			dag.Workdir("/src"),
			dag.Copy(dag.Files{From: dag.Local(filepath.Join(dir, "services", name)), Dest: "."}),
			dag.Shell("sh build.sh > /run-service"),
		},
	})
	return dag.New(dag.Spec{
		Name: name,
		From: tools(),
		Steps: []dag.Step{
			dag.Copy(dag.Files{From: compiled, Src: []string{"/run-service"}, Dest: "/bin/", Chmod: "0755"}),
			dag.Env("SERVICE", name),
			dag.Configure(dag.Config{
				Labels: map[string]string{"example.service": name},
				Cmd:    []string{"/bin/run-service"},
			}),
		},
	})
}
