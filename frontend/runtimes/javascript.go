package runtimes

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// javascript is what the template of Node.js and Bun is executed with.
type javascript struct {
	*common
	Manager manager
	Setup   []string // instructions that install the package manager, none if it is there
	// Early are the instructions that copy what the package manager reads, if that is less than
	// the project.
	Early []string
	// SourceFirst says that installing reads more than manifests: Early copies the whole project.
	SourceFirst bool
	// Drop and DropAll are instructions that remove what must not run without the development
	// dependencies, and with them: prepare, and prepare if it only sets up git hooks.
	Drop, DropAll []string
	// NoScripts and NoScriptsAll are options that have the same effect.
	NoScripts, NoScriptsAll string
	// Build is the command that builds, "" if nothing has to be built. BuildStage is set as well
	// if installing builds.
	Build      string
	BuildStage bool
	// BinPath says that the command lies in node_modules/.bin.
	BinPath bool
	// FinalSetup says that the command needs the package manager.
	FinalSetup bool
	// Site is the directory of files to serve, "" for a program.
	Site string

	pkg *packageJSON
}

// Bun tells whether the image runs Bun.
func (j *javascript) Bun() bool { return j.Runtime.Language == "bun" }

// javascript looks at a project of Node.js or Bun.
func (c *common) javascript() (*javascript, error) {
	pkg, err := c.packageJSON()
	if err != nil {
		return nil, err
	}
	j := &javascript{common: c, pkg: pkg}
	if pkg == nil {
		j.pkg = &packageJSON{}
		c.note("there is no package.json: nothing is installed")
	}
	j.chooseManager()
	if err := j.manifests(); err != nil {
		return nil, err
	}
	j.scripts()
	if c.Runtime.Language == "static" {
		return j, nil
	}
	j.command()
	if tool, _ := c.siteBuilder(j.pkg); tool != "" && c.Runtime.Language == "node" {
		c.note("%s builds files for browsers and nothing here serves them: runtime static does", tool)
	}
	if c.Runtime.Name == "node20" {
		c.note("Node.js 20 gets no fixes any more, since April 2026: node22 and later do")
	}
	return j, nil
}

// Stage gives what the stages that install start from.
func (j *javascript) Stage() string {
	switch {
	case j.Tools():
		return "tools"
	case j.Bun():
		return "${BUN_IMAGE}"
	}
	return "${NODE_IMAGE}"
}

// Tools tells whether the package manager has to be installed or set up first.
func (j *javascript) Tools() bool {
	return j.Installs() && (len(j.Setup) > 0 || j.Manager.Env != "")
}

// Installs tells whether there is something to install.
func (j *javascript) Installs() bool { return j.has("package.json") }

// scripts decides what installing and building run.
func (j *javascript) scripts() {
	s := j.pkg.Scripts
	hooks := gitHooks(s["prepare"])
	if s["prepare"] != "" {
		j.drop(hooks)
	}
	prepares := s["prepare"] != "" && !hooks
	if s["preinstall"] != "" || s["install"] != "" || s["postinstall"] != "" || prepares ||
		j.pkg.depends("@prisma/client") || j.pkg.dependsLocally() {
		j.SourceFirst = true
	}
	if s["build"] != "" {
		j.Build = j.Manager.Run + " build"
	}
	j.BuildStage = j.Build != "" || prepares
	if j.SourceFirst {
		j.Early = []string{"COPY --from=source /app ./"}
	}
}

// drop keeps the prepare script from running where it cannot.
func (j *javascript) drop(hooks bool) {
	if j.Bun() { // there is no npm
		j.NoScripts = " --ignore-scripts"
		if hooks {
			j.NoScriptsAll = j.NoScripts
		}
		return
	}
	j.Drop = []string{"RUN npm pkg delete scripts.prepare"}
	if hooks {
		j.DropAll = j.Drop
	}
}

// gitHooks tells whether a prepare script only sets up git hooks, which an image has no use for.
func gitHooks(script string) bool {
	words := strings.Fields(script)
	return len(words) > 0 && slices.Contains([]string{"husky", "lefthook", "simple-git-hooks"}, words[0]) && !strings.ContainsAny(script, "&;")
}

// manifests finds what the package manager reads beside package.json.
func (j *javascript) manifests() error {
	if !j.Installs() {
		return nil
	}
	files := append([]string{"package.json"}, j.present(".npmrc")...)
	var trees []string
	switch j.Manager.Name {
	case "npm":
		files = append(files, j.present("package-lock.json", "npm-shrinkwrap.json")...)
	case "pnpm":
		files = append(files, j.present("pnpm-lock.yaml", "pnpm-workspace.yaml", ".pnpmfile.cjs")...)
		trees = j.present("patches")
	case "yarn":
		files = append(files, j.present("yarn.lock", ".yarnrc")...)
	case "berry":
		files = append(files, j.present("yarn.lock", ".yarnrc.yml")...)
		trees = j.present(".yarn/releases", ".yarn/plugins", ".yarn/patches")
	case "bun":
		files = append(files, j.present("bun.lock", "bun.lockb", "bunfig.toml")...)
		trees = j.present("patches")
	}
	members := j.members(j.workspaces(), "package.json")
	line, err := copyLine(files, "./")
	if err != nil {
		return err
	}
	j.Early = []string{line}
	for _, t := range trees {
		j.Early = append(j.Early, fmt.Sprintf("COPY %s ./%s/", t, t))
	}
	for _, m := range members {
		if m == "." {
			continue
		}
		line, err := copyLine([]string{m + "/package.json"}, "./"+m+"/")
		if err != nil {
			return err
		}
		j.Early = append(j.Early, line)
		sub, err := j.read(m + "/package.json")
		if err != nil {
			return err
		}
		pkg, err := parsePackageJSON(m+"/package.json", sub)
		if err != nil {
			return err
		}
		if pkg.Scripts["postinstall"] != "" || pkg.Scripts["prepare"] != "" || pkg.depends("@prisma/client") {
			j.SourceFirst = true // what they do needs more than the manifests
		}
	}
	return nil
}

// workspaces gives the patterns of the workspace's packages.
func (j *javascript) workspaces() []string {
	if j.Manager.Name != "pnpm" {
		return j.pkg.Workspaces
	}
	return pnpmPackages([]byte(j.text("pnpm-workspace.yaml")))
}

// command finds out what starts the program.
func (j *javascript) command() {
	start, name := j.pkg.Scripts["start"], "start"
	for range 5 { // "npm run serve" stands for another script
		w := strings.Fields(start)
		if len(w) > 1 && w[1] == "run" {
			w = slices.Delete(w, 1, 2)
		}
		if len(w) != 2 || !slices.Contains([]string{"npm", "pnpm", "yarn", "bun"}, w[0]) || j.pkg.Scripts[w[1]] == "" {
			break
		}
		start, name = j.pkg.Scripts[w[1]], w[1]
	}
	switch words := strings.Fields(start); {
	case start == "":
		j.Cmd = []string{j.program(), j.entry()}
	case j.hooked("start") || j.hooked(name) || !plainCommand(start):
		j.Cmd = []string{"npm", "start"}
		if j.Bun() {
			j.Cmd = []string{"bun", "run", "start"}
		}
		j.FinalSetup = !j.Bun() && callsManager(j.pkg.Scripts, j.Manager.Command)
	default:
		j.Cmd = words
		j.BinPath = !slices.Contains([]string{"node", "npm", "npx", "bun", "bunx", "sh"}, words[0]) && !strings.Contains(words[0], "/")
		j.FinalSetup = !j.Bun() && words[0] == j.Manager.Command && words[0] != "npm"
		j.BinPath = j.BinPath && !j.FinalSetup
	}
}

// program is what runs a file.
func (j *javascript) program() string {
	if j.Bun() {
		return "bun"
	}
	return "node"
}

// hooked tells whether npm runs something before or after a script.
func (j *javascript) hooked(script string) bool {
	return j.pkg.Scripts["pre"+script] != "" || j.pkg.Scripts["post"+script] != ""
}

// callsManager tells whether a script that start leads to may call a package manager that the image
// of Node.js does not have.
func callsManager(scripts map[string]string, manager string) bool {
	if manager == "npm" {
		return false
	}
	for _, n := range []string{"prestart", "start", "poststart"} {
		if slices.Contains(strings.Fields(scripts[n]), manager) {
			return true
		}
	}
	return false
}

// plainCommand tells whether a command means the same without a shell.
func plainCommand(s string) bool {
	return !strings.ContainsAny(s, "|&;<>()$`\\\"'*?[]#~!{}%\n") && !strings.Contains(strings.SplitN(s, " ", 2)[0], "=")
}

// entry is the file to run when no script says it.
func (j *javascript) entry() string {
	want := j.pkg.Main
	if j.Bun() && j.pkg.Module != "" {
		want = j.pkg.Module
	}
	if want != "" {
		clean := path.Clean(strings.TrimPrefix(want, "/"))
		if found := j.first(clean, clean+".js", path.Join(clean, "index.js")); found != "" {
			return found
		}
		if !j.BuildStage {
			j.note("main of package.json names %s, which is not there", want)
		}
		return clean
	}
	names := []string{"index.js", "server.js", "app.js", "main.js", "index.mjs", "server.mjs", "src/index.js", "src/server.js", "src/app.js", "src/main.js"}
	if j.Bun() {
		names = append([]string{"index.ts", "server.ts", "app.ts", "main.ts", "index.tsx", "src/index.ts", "src/server.ts", "src/main.ts"}, names...)
	}
	if found := j.first(names...); found != "" {
		return found
	}
	j.note("package.json has neither a start script nor a main file: the image runs %s, which is not there", names[0])
	return names[0]
}

// siteBuilder tells which tool of a package only builds files for browsers, and where it puts them;
// "" if the package starts something.
func (p *project) siteBuilder(pkg *packageJSON) (tool, dir string) {
	if pkg == nil || pkg.Scripts["build"] == "" {
		return "", ""
	}
	if start := pkg.Scripts["start"]; start != "" && !serverOfTool(start) {
		return "", ""
	}
	if p.first("server.js", "server.mjs", "server.ts", "app.js") != "" {
		return "", ""
	}
	for _, framework := range []string{"next", "nuxt", "@sveltejs/kit", "@remix-run/node", "@react-router/node", "@nestjs/core", "express", "fastify", "koa", "hono", "@astrojs/node"} {
		if _, ok := pkg.Dependencies[framework]; ok || pkg.depends(framework) && framework == "@sveltejs/kit" {
			return "", ""
		}
	}
	for _, b := range []struct{ name, dir string }{
		{"vite", "dist"}, {"react-scripts", "build"}, {"@vue/cli-service", "dist"}, {"astro", "dist"},
		{"parcel", "dist"}, {"@11ty/eleventy", "_site"}, {"gatsby", "public"}, {"@docusaurus/core", "build"},
		{"@angular/cli", "dist/" + pkg.Name + "/browser"},
	} {
		if pkg.depends(b.name) {
			return b.name, b.dir
		}
	}
	return "", ""
}

// serverOfTool tells whether a start script is a development server.
func serverOfTool(start string) bool {
	for _, s := range []string{"react-scripts start", "vite dev", "ng serve", "vue-cli-service serve", "parcel", "astro dev", "gatsby develop", "docusaurus start", "eleventy --serve"} {
		if strings.HasPrefix(start, s) {
			return true
		}
	}
	return start == "vite" || strings.HasPrefix(start, "vite --")
}
