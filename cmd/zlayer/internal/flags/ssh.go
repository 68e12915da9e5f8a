package flags

import (
	"errors"
	"strings"

	"github.com/zlayer-dev/zlayer/engine"
)

// ParseSSH reads ID[=PATH[,PATH...]], where a path is an agent's socket or a
// private key. Without a path the agent is that of SSH_AUTH_SOCK, which lookup
// must then find.
func ParseSSH(s string, lookup func(string) (string, bool)) (engine.SSHAgent, error) {
	id, paths, hasPaths := strings.Cut(s, "=")
	if id == "" {
		return engine.SSHAgent{}, errors.New("the id is missing: write default or ID=PATH")
	}
	a := engine.SSHAgent{ID: id}
	if !hasPaths {
		if v, ok := lookup("SSH_AUTH_SOCK"); !ok || v == "" {
			return engine.SSHAgent{}, errors.New("SSH_AUTH_SOCK is not set: start ssh-agent or write " + id + "=PATH of a key")
		}
		return a, nil
	}
	for p := range strings.SplitSeq(paths, ",") {
		if p == "" {
			return engine.SSHAgent{}, errors.New("a path is empty: write " + id + "=PATH[,PATH]")
		}
		a.Paths = append(a.Paths, p)
	}
	return a, nil
}
