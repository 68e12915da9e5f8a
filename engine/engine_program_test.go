package engine

import "github.com/zlayer-dev/zlayer/dag"

// baseStage says the same as base. It is in a file of its own, so that programs are made
// in two.
func baseStage(dir string) *dag.Stage {
	return dag.New(dag.Spec{Name: "base", From: dag.Scratch(), Steps: []dag.Step{
		dag.Copy(dag.Files{From: dag.Local(dir), Src: []string{"busybox"}, Dest: "/bin/busybox"}),
		dag.Exec("/bin/busybox", "--install", "/bin"),
	}})
}
