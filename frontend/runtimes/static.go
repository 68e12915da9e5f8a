package runtimes

// static looks at a project that consists of files for browsers. If those have to be built first,
// the result is that of Node.js with a server in place of the program.
func (c *common) static() (any, error) {
	pkg, err := c.packageJSON()
	if err != nil {
		return nil, err
	}
	if pkg == nil || pkg.Scripts["build"] == "" {
		if !c.has("index.html") {
			c.note("there is no index.html: the server has no start page")
		}
		return c, nil
	}
	j, err := c.javascript()
	if err != nil {
		return nil, err
	}
	if _, j.Site = c.siteBuilder(pkg); j.Site == "" {
		j.Site = "dist"
		c.note("where the build script puts its files is not known: the image takes them from dist")
	}
	return j, plain(j.Site)
}
