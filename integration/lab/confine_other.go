//go:build !linux

package lab

import "os/exec"

// confine has nothing to do: debootstrap runs on Linux only.
func confine(*exec.Cmd) {}
