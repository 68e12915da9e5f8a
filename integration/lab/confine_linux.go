package lab

import (
	"os/exec"
	"syscall"
)

// confine gives the command a mount namespace and a process group of its own, and ties it to the
// calling thread, so that neither mounts nor children outlive it however it ends.
func confine(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNS,
		Setpgid:      true,
		Pdeathsig:    syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
