package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/zlayer-dev/zlayer/engine"
)

// writeSources writes the sources of services that are not there yet, and gives the
// names of all.
func writeSources(dir string, count int) ([]string, error) {
	var names []string
	for i := range count {
		name := fmt.Sprintf("service-%03d", i)
		names = append(names, name)
		for file, text := range map[string]string{
			"build.sh": "echo '#!/bin/sh'\necho \"echo $(cat greeting)\"\n",
			"greeting": "this is " + name + "\n",
		} {
			path := filepath.Join(dir, "services", name, file)
			if _, err := os.Stat(path); err == nil {
				continue
			}
			if err := write(path, text); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// dockerfile says the same as the function service.
const dockerfile = `FROM scratch AS tools
COPY --from=bin busybox /bin/busybox
RUN ["/bin/busybox", "--install", "/bin"]
FROM tools AS compile
WORKDIR /src
COPY . .
RUN sh build.sh > /run-service
FROM tools
COPY --from=compile --chmod=0755 /run-service /bin/
ENV SERVICE=NAME
LABEL example.service=NAME
CMD ["/bin/run-service"]
`

// fileRequest builds a service from a Dockerfile, which it writes beside the sources.
func fileRequest(dir, name string) (engine.Request, error) {
	file := filepath.Join(dir, "dockerfiles", name+".Dockerfile")
	err := write(file, strings.ReplaceAll(dockerfile, "NAME", name))
	return engine.Request{
		Context:       filepath.Join(dir, "services", name),
		File:          file,
		BuildContexts: map[string]string{"bin": "/bin"},
	}, err
}
