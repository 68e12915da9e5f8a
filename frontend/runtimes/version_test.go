package runtimes

import (
	"testing"
	"testing/fstest"
)

func TestRangeLine(t *testing.T) {
	for _, c := range []struct {
		language, text, want string
	}{
		{"node", ">=18", "24"},
		{"node", "*", "24"},
		{"node", "22", "22"},
		{"node", "22.x", "22"},
		{"node", "v20.11.1", "20"},
		{"node", "^20.9.0 || >=22", "24"},
		{"node", "^20.9.0 || ^22.1", "22"},
		{"node", ">= 20 < 21", "20"},
		{"node", ">=20.0.0 <=22.99.99", "22"},
		{"node", "18 - 20", "20"},
		{"node", "~22.3", "22"},
		{"node", ">24", "26"},
		{"node", ">24.1", "24"},
		{"node", "<24", "22"},
		{"node", "<24.1", "24"},
		{"node", "16.x", "16"},
		{"node", "^14 || ^16", "14"},
		{"node", ">=28", "28"},
		{"node", "<18", ""},
		{"node", "lts/*", ""},
		{"node", "latest", ""},
		{"python", ">=3.9", "3.12"},
		{"python", ">=3.13", "3.13"}, // the case that "=" as separator never matched
		{"python", ">=3.9,<3.12", "3.9"},
		{"python", "~=3.13.1", "3.13"},
		{"python", "~=3.11", "3.12"},
		{"python", "^3.13", "3.13"},
		{"python", "~3.13", "3.13"},
		{"python", "==3.13.*", "3.13"},
		{"python", "==3.13.2", "3.13"},
		{"python", ">=3.10,!=3.12.*", "3.13"},
		{"python", ">=3.10,!=3.12.1", "3.12"},
		{"python", ">3.12", "3.13"},
		{"python", "3", "3.12"},
		{"python", "<4.0,>=3.8", "3.12"},
		{"python", "==2.7", "2.7"},
		{"python", ">=3.15", "3.15"},
	} {
		if got := rangeHint(c.text, "", defaultVersion(c.language), c.language).version; got != c.want {
			t.Errorf("%s %q: got %q, want %q", c.language, c.text, got, c.want)
		}
	}
}

func TestVersionHint(t *testing.T) {
	for _, c := range []struct {
		language, file, text string
		version, from        string
	}{
		{"node", ".nvmrc", "v22.11.0\n", "22.11.0", ".nvmrc"},
		{"node", ".nvmrc", "22", "22", ".nvmrc"},
		{"node", ".nvmrc", "lts/Jod", "22", ".nvmrc"},
		{"node", ".nvmrc", "node", "", ""},
		{"node", ".node-version", "20.1.0\n", "20.1.0", ".node-version"},
		{"node", ".tool-versions", "ruby 3.3\nnodejs 24.1.0 22.0.0\n", "24.1.0", ".tool-versions"},
		{"node", "package.json", `{"volta": {"node": "20.3.1"}}`, "20.3.1", "volta of package.json"},
		{"node", "package.json", `{"engines": {"node": "22.x"}}`, "22", "engines of package.json"},
		{"node", "package.json", `{"engines": ["node >= 0.8"]}`, "", ""},
		{"python", ".python-version", "3.13\n3.12\n", "3.13", ".python-version"},
		{"python", ".python-version", "pypy3.10-7.3.12\n", "", ""},
		{"python", "runtime.txt", "python-3.12.4\n", "3.12.4", "runtime.txt"},
		{"python", "pyproject.toml", "[project]\nrequires-python = '>=3.13'\n", "3.13", "pyproject.toml"},
		{"python", "Pipfile", "[requires]\npython_full_version = \"3.13.1\"\n", "3.13.1", "Pipfile"},
		{"go", "go.mod", "module x\n\ngo 1.25.3\n", "1.25.3", "go.mod"},
		{"go", "go.mod", "module x\n\ngo 1.25\ntoolchain go1.26.1-custom\n", "1.26.1", "go.mod"},
		{"go", "go.mod", "module x\n", "", ""},
		{"go", "go.work", "go 1.26\n", "1.26", "go.work"},
		{"rust", "rust-toolchain", "1.80\n", "1.80", "rust-toolchain"},
		{"rust", "rust-toolchain", "[toolchain]\nchannel = \"1.81.0\"\n", "1.81.0", "rust-toolchain"},
		{"rust", "rust-toolchain.toml", "[toolchain]\nchannel = \"stable\"\n", "", ""},
		{"rust", "rust-toolchain.toml", "[toolchain]\nchannel = \"nightly\"\n", "nightly", "rust-toolchain.toml"},
		{"deno", ".tool-versions", "deno 2.1.0\n", "2.1.0", ".tool-versions"},
		{"bun", ".bun-version", "1.2.3\n", "1.2.3", ".bun-version"},
		{"bun", "package.json", `{"packageManager": "bun@1.1.0"}`, "1.1.0", "packageManager of package.json"},
		{"bun", "package.json", `{"packageManager": "yarn@1.1.0"}`, "", ""},
	} {
		p := &project{fs: fstest.MapFS{c.file: {Data: []byte(c.text)}}}
		h, err := p.versionHint(c.language)
		if err != nil || h.version != c.version || h.from != c.from {
			t.Errorf("%s: %s %q: got %q from %q and %v, want %q from %q", c.language, c.file, c.text, h.version, h.from, err, c.version, c.from)
		}
	}
}
