// Package dag describes builds in Go, without a build file: stages that start from
// images, other stages, directories, repositories or any llb.State, and the steps that
// make them. The engine builds a [Stage] as it builds a directory (engine.Request.Stage),
// several of them in one call as several directories (engine.BuildAll).
//
//	tools := dag.New(dag.Spec{
//		From:  dag.Image("alpine:3.22"),
//		Steps: []dag.Step{dag.Shell("apk add git")},
//	})
//	app := dag.New(dag.Spec{
//		From: tools,
//		Steps: []dag.Step{
//			dag.Copy(dag.Files{From: dag.Local("./app"), Dest: "/app"}),
//			dag.Configure(dag.Config{Cmd: []string{"/app/run"}}),
//		},
//	})
//
// Stages, sources and steps are immutable and can be shared by any number of builds; one
// that several stages read is built once. Each remembers the line of Go that made it:
// errors, warnings and failures of the build name that line as they would name the line
// of a build file. Mistakes are reported when the stage is built, all of them at once.
//
// A stage means what the Dockerfile of the same instructions means, since it is turned
// into one ([Render]); so it has the same key, and what was built from one is not built
// again from the other. All texts are literal: nothing in them is expanded, $ is a dollar
// sign. There are no build arguments, since Go has variables.
//
// The package reads no files and contacts nobody: directories are looked at when the
// engine builds.
package dag
