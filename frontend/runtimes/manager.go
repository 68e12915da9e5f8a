package runtimes

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// manager is a package manager of JavaScript, as the template sees it.
type manager struct {
	Name    string // npm, pnpm, yarn (the classic one), berry or bun
	Command string // what it is called in a shell
	Title   string
	Run     string // runs a script

	// VersionArg is the argument for its version, "" if it comes with the image.
	VersionArg, Version, VersionFrom string

	Cache     string // where it keeps downloads
	Prod, All string // commands that install
	Env       string // variables that it has to be told, for an ENV
	NeedsBun  bool   // it is taken from Bun's image
}

// chooseManager finds out which package manager the project is made with.
func (j *javascript) chooseManager() {
	name, exact := j.pkg.manager()
	from := "packageManager of package.json"
	locks := map[string]string{
		"pnpm": j.first("pnpm-lock.yaml"), "yarn": j.first("yarn.lock"),
		"bun": j.first("bun.lock", "bun.lockb"), "npm": j.first("npm-shrinkwrap.json", "package-lock.json"),
	}
	var found []string
	for _, m := range []string{"bun", "pnpm", "yarn", "npm"} {
		if locks[m] != "" {
			found = append(found, m)
		}
	}
	if j.Bun() {
		name, exact = "bun", ""
	}
	if name == "" && len(found) > 0 {
		name = found[0]
		if len(found) > 1 {
			j.note("there are lock files of %s: %s installs; packageManager in package.json decides", strings.Join(found, ", "), name)
		}
	}
	if name == "" {
		name = "npm"
	}
	locked := locks[name] != ""
	if !locked && j.Installs() {
		j.note("there is no lock file of %s: each build may install other versions; commit one", name)
	}
	switch name {
	case "pnpm":
		j.Manager = pnpm(locked)
		j.Manager.Version = pnpmVersion(j.text(locks[name]))
	case "yarn":
		j.Manager = j.yarn(locks[name], exact)
	case "bun":
		j.Manager = bun(locked)
		j.Manager.NeedsBun = !j.Bun()
		if j.Bun() {
			j.Manager.VersionArg = ""
		}
	default:
		j.Manager = npm(locked)
	}
	if exact != "" && j.Manager.VersionArg != "" {
		j.Manager.Version, j.Manager.VersionFrom = exact, from
	}
	j.Setup = j.Manager.install()
}

func npm(locked bool) manager {
	m := manager{Name: "npm", Command: "npm", Title: "npm", Run: "npm run", Cache: "/root/.npm", Prod: "npm ci --omit=dev", All: "npm ci"}
	if !locked {
		m.Prod, m.All = "npm install --omit=dev", "npm install"
	}
	return m
}

func pnpm(locked bool) manager {
	m := manager{
		Name: "pnpm", Command: "pnpm", Title: "pnpm", Run: "pnpm run", VersionArg: "PNPM_VERSION", Version: defaultPNPM,
		Cache: "/pnpm/store",
		Prod:  "pnpm install --frozen-lockfile --prod --store-dir /pnpm/store",
		All:   "pnpm install --frozen-lockfile --store-dir /pnpm/store",
	}
	if !locked {
		m.Prod = strings.Replace(m.Prod, "--frozen", "--no-frozen", 1)
		m.All = strings.Replace(m.All, "--frozen", "--no-frozen", 1)
	}
	return m
}

func bun(locked bool) manager {
	m := manager{
		Name: "bun", Command: "bun", Title: "Bun", Run: "bun run", VersionArg: "BUN_VERSION", Version: defaultBun,
		Cache: "/root/.bun/install/cache", Prod: "bun install --frozen-lockfile --production", All: "bun install --frozen-lockfile",
	}
	if !locked {
		m.Prod, m.All = "bun install --production", "bun install"
	}
	return m
}

// yarn tells the two programs of that name apart. The images of Node.js set YARN_VERSION, so the
// argument has another name.
func (j *javascript) yarn(lock, exact string) manager {
	text := j.text(lock)
	v, _, known := parseVersion(exact)
	if berry := strings.Contains(text, "__metadata:") || j.has(".yarnrc.yml") || known && v[0] > 1; !berry {
		m := manager{
			Name: "yarn", Command: "yarn", Title: "yarn 1", Run: "yarn run", VersionArg: "YARNPKG_VERSION", Version: defaultYarn,
			Cache: "/root/.cache/yarn",
			Prod:  "yarn install --frozen-lockfile --production --cache-folder /root/.cache/yarn",
			All:   "yarn install --frozen-lockfile --production=false --cache-folder /root/.cache/yarn",
		}
		if lock == "" {
			m.Prod = strings.Replace(m.Prod, " --frozen-lockfile", "", 1)
			m.All = strings.Replace(m.All, " --frozen-lockfile", "", 1)
		}
		return m
	}
	m := manager{
		Name: "berry", Command: "yarn", Title: "yarn", Run: "yarn run", VersionArg: "YARNPKG_VERSION", Version: defaultBerry,
		Cache: "/root/.yarn/berry/cache",
		// node_modules is what tools and the final image know; the cache must not lie in the project
		Env:  "YARN_NODE_LINKER=node-modules YARN_ENABLE_GLOBAL_CACHE=true YARN_ENABLE_TELEMETRY=0",
		Prod: "yarn workspaces focus --all --production", All: "yarn install --immutable",
	}
	if lock == "" {
		m.All = "yarn install --no-immutable"
	}
	if !known {
		v, _, known = parseVersion(berryVersion(text))
		m.Version = v.String()
	}
	if !known || v[0] >= 4 {
		m.Version = cmpOr(m.Version, defaultBerry)
		return m
	}
	// older ones need a plugin to leave out what is for development
	m.Prod = m.All
	j.note("yarn %s cannot leave out development dependencies: yarn 4 can", v)
	return m
}

var (
	lockfileVersion = lazyregexp.New(`(?m)^lockfileVersion: *'?"?(\d+)`)
	metadataVersion = lazyregexp.New(`(?m)^__metadata:\r?\n +version: *"?(\d+)`)
)

// pnpmVersion gives the release line of pnpm that writes a lock file like this.
func pnpmVersion(lock string) string {
	m := lockfileVersion().FindStringSubmatch(lock)
	if m == nil {
		return defaultPNPM
	}
	switch m[1] {
	case "5":
		return "7"
	case "6":
		return "8"
	}
	return defaultPNPM
}

// berryVersion gives the release line of yarn that writes a lock file like this.
func berryVersion(lock string) string {
	m := metadataVersion().FindStringSubmatch(lock)
	if m == nil {
		return defaultBerry
	}
	switch m[1] {
	case "4", "5":
		return "2"
	case "6", "7":
		return "3"
	}
	return defaultBerry
}

// pnpmPackages gives the patterns of a pnpm-workspace.yaml.
func pnpmPackages(data []byte) []string {
	var w struct{ Packages []string }
	if yaml.Unmarshal(data, &w) != nil {
		return nil
	}
	return w.Packages
}

// install gives the instructions that put the package manager into a stage of Node.js.
func (m manager) install() []string {
	if m.VersionArg == "" {
		return nil
	}
	pkg := map[string]string{"pnpm": "pnpm", "yarn": "yarn", "berry": "@yarnpkg/cli-dist"}[m.Name]
	if m.NeedsBun {
		return []string{"COPY --from=bun /usr/local/bin/bun /usr/local/bin/bun"}
	}
	// the images bring a yarn of their own, over which npm writes only by force
	force := ""
	if m.Command == "yarn" {
		force = "--force "
	}
	return []string{fmt.Sprintf(`RUN --mount=type=cache,target=/root/.npm npm install --global %s"%s@${%s}"`, force, pkg, m.VersionArg)}
}
