// Package runtimes has build files for projects that have none: a template per language runtime,
// rendered for what the project consists of.
//
// [All] and [Get] name the runtimes, [Detect] tells which of them a project wants, [Render] gives
// the Dockerfile and [Init] the same as a file for the user to own. The package reads the project's
// manifests and lock files and nothing else: it runs no tool of the language and contacts nobody.
//
// What a template must hold: it builds whatever the ignore file says or does not say, it fails when
// a step of it fails, its result does not run as root, and every base image can be replaced by a
// build argument. Runtimes that are WebAssembly are known by name and handed on; they have no
// template.
package runtimes
