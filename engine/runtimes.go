package engine

import (
	"os"

	"github.com/zlayer-dev/zlayer/frontend/runtimes"
)

// RuntimeInfo is a language runtime that projects can be built for by name.
type RuntimeInfo struct {
	Name        string   `json:"name"`
	Aliases     []string `json:"aliases,omitempty"`
	Description string   `json:"description"`
	// Detect are the files that suggest it, as patterns.
	Detect []string `json:"detect,omitempty"`
}

// Runtimes lists the language runtimes there are templates for.
func Runtimes() []RuntimeInfo {
	var list []RuntimeInfo
	for _, r := range runtimes.All() {
		list = append(list, RuntimeInfo{Name: r.Name, Aliases: r.Aliases, Description: r.Description, Detect: r.Detect})
	}
	return list
}

// RuntimeFile gives the template of a runtime for the project in dir as a file for
// the user to own: a Dockerfile, or with zimagefile a ZImagefile. An empty name is
// the runtime that the project suggests.
func RuntimeFile(dir, name string, zimagefile bool) ([]byte, error) {
	dir, err := existingDir("project", dir)
	if err != nil {
		return nil, err
	}
	j := &job{req: Request{Runtime: name, RuntimeAuto: name == ""}}
	r, err := j.runtime(dir)
	if err != nil {
		return nil, err
	}
	format := runtimes.Dockerfile
	if zimagefile {
		format = runtimes.ZImagefile
	}
	text, err := runtimes.Init(r, os.DirFS(dir), format)
	return text, asInput(err)
}
