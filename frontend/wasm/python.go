package wasm

import (
	"errors"
	"strings"
)

const (
	pythonImage            = "docker.io/library/python:3.13-slim-bookworm"
	componentizePyVersion  = "0.25.1"
	pythonDependencyFolder = outputDir + "/site-packages"
)

func pythonToolchain() toolchain {
	pip := cacheMount("pip", "/root/.cache/pip", "shared")
	return toolchain{
		image:   pythonImage,
		install: "command -v componentize-py >/dev/null || pip install componentize-py==" + componentizePyVersion, installMounts: pip,
		makes: Preview2, only: true, optimizes: true, exclude: []string{"**/.venv", "**/venv", "**/__pycache__"},
		dependencies: (*compiler).pipDependencies, mounts: pip, compile: (*compiler).compilePython,
	}
}

// pipDependencies installs what the program imports where componentize-py finds it.
func (c *compiler) pipDependencies() error {
	if c.has("requirements.txt") {
		c.line(c.Pos, "COPY requirements.txt ./")
		c.run(c.Pos, c.chain.mounts, "pip install --target "+pythonDependencyFolder+" -r requirements.txt")
	}
	return nil
}

func (c *compiler) compilePython() (string, error) {
	if c.wit == "" {
		return "", errors.New("components of Python need WIT files: put them into wit, or set wasm.wit")
	}
	file := c.first("app.py", "main.py", "src/app.py", "src/main.py")
	if file == "" {
		if py := c.files(".", ".py"); len(py) == 1 && py[0] != "setup.py" {
			file = py[0]
		}
	}
	if file == "" {
		return "", errors.New("the program is not found: call it app.py or main.py")
	}
	dir, module := ".", strings.TrimSuffix(file, ".py")
	if rest, ok := strings.CutPrefix(module, "src/"); ok {
		dir, module = "src", rest
	}
	world := ""
	if w := c.worldName(); w != "" {
		world = " -w " + quote(w)
	}
	path := " -p " + dir
	if c.has("requirements.txt") {
		path += " -p " + pythonDependencyFolder
	}
	return "componentize-py -d " + quote(c.wit) + world + " componentize " + quote(module) + path + " -o " + built +
		" && touch -d @0 " + built, nil
}
