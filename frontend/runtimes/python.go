package runtimes

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// python is what the template of Python is executed with.
type python struct {
	*common
	// Tool names what installs: pip, uv, Poetry or Pipenv.
	Tool                       string
	ToolArg, ToolVer, ToolName string // the argument for its version, and what pip calls it
	Env                        string // variables that it has to be told
	Cache                      string
	Early                      []string // instructions that copy what Install reads
	Install                    []string // commands
	Project                    []string // commands that install the project itself, once it is there
	py                         *pyproject
	names                      []string // of packages that are installed, in lower case
	installed                  bool     // the project's own commands are
}

// python looks at a project of Python.
func (c *common) python() (*python, error) {
	py, err := c.pyproject()
	if err != nil {
		return nil, err
	}
	p := &python{common: c, py: py, Tool: "pip", Cache: "/root/.cache/pip"}
	if py == nil {
		p.py = &pyproject{}
	}
	p.names = slices.Clone(p.py.Dependencies)
	switch {
	case c.has("uv.lock"):
		err = p.uv()
	case c.has("poetry.lock"):
		p.poetry()
	case c.has("Pipfile.lock"):
		p.pipenv()
	case c.has("requirements.txt"):
		err = p.pip()
	case p.py.UV:
		err = p.uv()
	case p.py.Poetry && !p.py.BuildSystem:
		p.poetry()
	case py != nil && !p.py.BuildSystem && !c.has("setup.py"):
		p.dependenciesOnly()
	case py != nil || c.has("setup.py"):
		p.Project = []string{"pip install ."}
		p.installed = true
	case c.has("Pipfile"):
		err = fmt.Errorf("there is a Pipfile without a Pipfile.lock: run pipenv lock")
	default:
		c.note("there is no requirements.txt and no pyproject.toml: nothing is installed")
	}
	if err != nil {
		return nil, err
	}
	p.command()
	return p, nil
}

// pip installs requirements.txt, and the project itself if its commands are wanted.
func (p *python) pip() error {
	r, err := p.readRequirements("requirements.txt")
	if err != nil {
		return err
	}
	p.names = append(p.names, r.names...)
	p.Install = []string{"pip install -r requirements.txt"}
	if r.local {
		p.Early = []string{"COPY --from=source /app ./"}
	} else {
		for _, f := range r.files {
			line, err := copyLine([]string{f}, "./"+strings.TrimPrefix(path.Dir(f)+"/", "./"))
			if err != nil {
				return err
			}
			p.Early = append(p.Early, line)
		}
	}
	if p.py.BuildSystem && len(p.py.Scripts) > 0 {
		p.Project, p.installed = []string{"pip install --no-deps ."}, true
	}
	return nil
}

// uv installs what the lock file says, or what the manifest says if there is none.
func (p *python) uv() error {
	p.Tool, p.ToolArg, p.ToolName, p.ToolVer = "uv", "UV_VERSION", "uv", defaultUV
	p.Cache = "/root/.cache/uv"
	p.Env = "UV_PROJECT_ENVIRONMENT=/opt/venv UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy"
	p.installed = p.py.BuildSystem || p.py.UVPackage
	files := []string{"pyproject.toml"}
	sync := "uv sync --no-dev --no-editable"
	if p.has("uv.lock") {
		files = append(files, "uv.lock")
		// the projects of a workspace are not there yet, so the lock file cannot be checked
		p.Install = []string{"uv sync --frozen --no-dev --no-install-workspace"}
		sync = "uv sync --locked --no-dev --no-editable"
	} else {
		p.note("there is no uv.lock: each build may install other versions; run uv lock")
		p.Install = []string{"uv sync --no-dev --no-install-project"}
		if len(p.py.UVMembers) > 0 {
			p.Install = nil
		}
	}
	if p.installed || len(p.py.UVMembers) > 0 {
		p.Project = []string{sync}
	}
	if p.Install == nil {
		return nil
	}
	line, err := copyLine(files, "./")
	p.Early = []string{line}
	return err
}

// poetry installs the main group.
func (p *python) poetry() {
	p.Tool, p.ToolArg, p.ToolName, p.ToolVer = "Poetry", "POETRY_VERSION", "poetry", defaultPoetry
	p.Env = "POETRY_NO_INTERACTION=1 POETRY_CACHE_DIR=/root/.cache/poetry"
	p.Cache = "/root/.cache/poetry"
	p.Early = []string{"COPY " + strings.Join(p.present("pyproject.toml", "poetry.lock"), " ") + " ./"}
	p.Install = []string{"poetry install --only main --no-root"}
	if !p.has("poetry.lock") {
		p.note("there is no poetry.lock: each build may install other versions; run poetry lock")
	}
	if p.py.PackageMode && p.py.Name != "" {
		p.Project, p.installed = []string{"poetry install --only main"}, true
	}
}

// pipenv installs what the lock file says, by way of pip.
func (p *python) pipenv() {
	p.Tool, p.ToolArg, p.ToolName, p.ToolVer = "Pipenv", "PIPENV_VERSION", "pipenv", "*"
	p.Early = []string{"COPY Pipfile Pipfile.lock ./"}
	p.Install = []string{"pipenv requirements >/tmp/requirements.txt", "pip install -r /tmp/requirements.txt"}
}

// dependenciesOnly is for a pyproject.toml that only lists dependencies: pip cannot install those
// without a package around them.
func (p *python) dependenciesOnly() {
	if len(p.py.Dependencies) == 0 {
		return
	}
	p.Early = []string{"COPY pyproject.toml ./"}
	p.Install = []string{
		`python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' >/tmp/requirements.txt`,
		"pip install -r /tmp/requirements.txt",
	}
}

var (
	pythonMain = lazyregexp.New(`(?m)^if\s+__name__\s*==`)
	pythonApp  = lazyregexp.New(`(?m)^([A-Za-z_][A-Za-z0-9_]*)(?:\s*:\s*[A-Za-z_.]+)?\s*=\s*(?:[a-z_]+\.)?(FastAPI|Starlette|Litestar|Quart|Flask)\(`)
	pythonName = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// command finds out what starts the program.
func (p *python) command() {
	if p.installed && len(p.py.Scripts) > 0 {
		name := p.py.Scripts[0]
		for _, n := range []string{"main", "start", "serve", "server"} {
			if slices.Contains(p.py.Scripts, n) {
				name = n
			}
		}
		if slices.Contains(p.py.Scripts, p.py.Name) {
			name = p.py.Name
		} else if len(p.py.Scripts) > 1 {
			p.note("the project has the commands %s: the image runs %s", strings.Join(p.py.Scripts, ", "), name)
		}
		p.Cmd = []string{name}
		return
	}
	if p.has("manage.py") {
		p.django()
		return
	}
	for _, f := range []string{"main.py", "app.py", "server.py", "wsgi.py", "asgi.py", "run.py", "src/main.py", "src/app.py", "app/main.py", "__main__.py"} {
		if p.has(f) {
			p.Cmd = p.runFile(f)
			return
		}
	}
	for _, root := range []string{".", "src"} {
		for _, e := range p.list(root) {
			if e.IsDir() && pythonName().MatchString(e.Name()) && p.has(path.Join(root, e.Name(), "__main__.py")) {
				p.Cmd = []string{"python", "-m", e.Name()}
				if root == "src" && !p.installed {
					p.Cmd = []string{"python", "src/" + e.Name()}
				}
				return
			}
		}
	}
	p.Cmd = []string{"python", "main.py"}
	p.note("nothing here looks like a program: the image runs main.py, which is not there")
}

// runFile tells how to run a file: by a server if it only defines an application.
func (p *python) runFile(file string) []string {
	text := p.text(file)
	m := pythonApp().FindStringSubmatch(text)
	if m == nil || pythonMain().MatchString(text) {
		return []string{"python", file}
	}
	module := strings.ReplaceAll(strings.TrimSuffix(file, ".py"), "/", ".") + ":" + m[1]
	uses := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(p.names, n) })
	}
	switch {
	case m[2] == "Flask" && uses("gunicorn"):
		return []string{"gunicorn", "--bind", "0.0.0.0:8000", module}
	case m[2] == "Flask":
		p.note("the image runs Flask's development server: add gunicorn to the requirements")
		return []string{"flask", "--app", module, "run", "--host", "0.0.0.0", "--port", "8000"}
	case uses("uvicorn", "fastapi"): // fastapi[standard] brings it
		return []string{"uvicorn", "--host", "0.0.0.0", "--port", "8000", module}
	case uses("hypercorn"):
		return []string{"hypercorn", "--bind", "0.0.0.0:8000", module}
	}
	return []string{"python", file}
}

// django runs a Django site.
func (p *python) django() {
	for _, e := range p.list(".") {
		if e.IsDir() && pythonName().MatchString(e.Name()) && p.has(e.Name()+"/wsgi.py") && slices.Contains(p.names, "gunicorn") {
			p.Cmd = []string{"gunicorn", "--bind", "0.0.0.0:8000", e.Name() + ".wsgi"}
			return
		}
	}
	p.note("the image runs Django's development server: add gunicorn to the requirements")
	p.Cmd = []string{"python", "manage.py", "runserver", "0.0.0.0:8000"}
}
