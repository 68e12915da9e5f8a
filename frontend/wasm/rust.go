package wasm

import (
	"strings"
)

const (
	rustImage             = "docker.io/library/rust:1.91-bookworm"
	cargoComponentVersion = "0.21.1"
)

// cargoTarget is where cargo builds: a cache, from which the result is copied.
const cargoTarget = outputDir + "/target"

// cargoMounts are cargo's caches. What is built is kept as well, for one build at a time.
func cargoMounts() string {
	return cacheMount("cargo-registry", "/usr/local/cargo/registry", "shared") +
		cacheMount("cargo-git", "/usr/local/cargo/git", "shared") +
		cacheMount("cargo-target", cargoTarget, "locked")
}

// rustExclude is what cargo builds into.
var rustExclude = []string{"**/target"}

func rustToolchain(target Target, adapter bool) toolchain {
	// rustup's images have no library for WebAssembly yet; others have what they have.
	install := "! command -v rustup >/dev/null || rustup target add " + rustTriple(target, adapter)
	return toolchain{
		image: rustImage, install: install, makes: Preview2, features: true, exclude: rustExclude,
		mounts: cargoMounts(), compile: (*compiler).compileRust,
	}
}

// rustTriple is what rustc calls the target.
func rustTriple(target Target, adapter bool) string {
	if target == Preview1 || adapter {
		return "wasm32-wasip1"
	}
	return "wasm32-wasip2"
}

func rustComponentToolchain() toolchain {
	return toolchain{
		image:         rustImage,
		install:       "set -e\n! command -v rustup >/dev/null || rustup target add wasm32-wasip1\ncommand -v cargo-component >/dev/null || cargo install --locked cargo-component@" + cargoComponentVersion,
		installMounts: cacheMount("cargo-registry", "/usr/local/cargo/registry", "shared"),
		makes:         Preview2, only: true, features: true, exclude: rustExclude,
		mounts: cargoMounts(), compile: (*compiler).compileRustComponent,
	}
}

// cargoFlags are those of cargo build and cargo component build.
func (c *compiler) cargoFlags() string {
	flags := ""
	if c.has("Cargo.lock") {
		flags += " --locked"
	}
	if c.Optimize {
		flags += " --release"
	}
	if len(c.Features) > 0 {
		flags += " --features " + quote(strings.Join(c.featureList(), ","))
	}
	return flags
}

// cargoSetup is what comes before cargo: where it builds, and that the sources are new. Cargo tells
// what has changed by the times of files, and those of a build context are no newer than what an
// older or another tree left in the cache.
func (c *compiler) cargoSetup() string {
	setup := "set -e\nexport CARGO_HOME=/usr/local/cargo CARGO_TARGET_DIR=" + cargoTarget + "\n"
	if c.Optimize && c.OptLevel.Value != "" {
		setup += "export CARGO_PROFILE_RELEASE_OPT_LEVEL=" + cargoLevel(c.level()) + "\n"
	}
	return setup + "find . -type f -exec touch {} +\n"
}

// cargoLevel is cargo's name of a level.
func cargoLevel(level string) string {
	if level == "" {
		return "1"
	}
	return level
}

// compileRust builds with cargo, which tells what it has made.
func (c *compiler) compileRust() (string, error) {
	m, err := c.cargo()
	if err != nil {
		return "", err
	}
	triple := rustTriple(c.target, c.lift)
	var choose string
	if triple == "wasm32-wasip1" {
		choose = `rustc --print target-list | grep -qx "$triple" || triple=wasm32-wasi # before Rust 1.78
`
	} else {
		choose = `rustc --print target-list | grep -qx "$triple" || { echo "this Rust knows no $triple: take an image of Rust 1.82 or later, or set wasm.adapter to command or reactor" >&2; exit 1; }
`
	}
	return c.cargoSetup() + "triple=" + triple + "\n" + choose +
		`cargo build --target "$triple" --message-format=json-render-diagnostics` + c.cargoFlags() + ` >` + outputDir + `/messages.json
sed -n '/"reason":"compiler-artifact"/s/.*"filenames":\[\([^]]*\)\].*/\1/p' ` + outputDir + `/messages.json | tr ',' '\n' |
  sed -n 's/^"\(.*\.wasm\)"$/\1/p' | sort -u >` + outputDir + `/results
` + takeResult(m.preferred(), "set default-run, or default-members in the workspace"), nil
}

// compileRustComponent builds with cargo-component. It replaces modules by components where cargo
// puts them, which is emptied before.
func (c *compiler) compileRustComponent() (string, error) {
	m, err := c.cargo()
	if err != nil {
		return "", err
	}
	return c.cargoSetup() + `rm -f ` + cargoTarget + `/wasm32-*/*/*.wasm
cargo component build` + c.cargoFlags() + `
find ` + cargoTarget + ` -mindepth 3 -maxdepth 3 -name '*.wasm' | sort >` + outputDir + `/results
` + takeResult(m.preferred(), "set default-run, or default-members in the workspace"), nil
}

// takeResult takes the one file that is listed in the results, or the preferred one of several.
func takeResult(preferred, hint string) string {
	pick := ""
	if preferred != "" {
		under := strings.ReplaceAll(preferred, "-", "_")
		pick = `if [ "$(wc -l <` + outputDir + `/results)" -gt 1 ]; then
  grep -e ` + quote("/"+preferred+".wasm") + ` -e ` + quote("/"+under+".wasm") + ` ` + outputDir + `/results >` + outputDir + `/result || cp ` + outputDir + `/results ` + outputDir + `/result
  mv ` + outputDir + `/result ` + outputDir + `/results
fi
`
	}
	return pick + `if [ "$(wc -l <` + outputDir + `/results)" -ne 1 ]; then
  echo "the build gives $(wc -l <` + outputDir + `/results) WebAssembly files and one is needed: ` + hint + `" >&2
  cat ` + outputDir + `/results >&2
  exit 1
fi
cp "$(cat ` + outputDir + `/results)" ` + built + `
touch -d @0 ` + built
}
