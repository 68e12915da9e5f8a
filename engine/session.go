package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	dockerconfig "github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"golang.org/x/crypto/ssh"
)

// credentials are those of docker's configuration.
type credentials struct {
	once      sync.Once
	config    *configfile.ConfigFile
	complaint string
}

// file is docker's configuration, and what is wrong with the file that it should come
// from; empty is nothing. Any number of builds may read it.
func (c *credentials) file() (cfg *configfile.ConfigFile, complaint string) {
	c.once.Do(func() {
		var text bytes.Buffer
		c.config = dockerconfig.LoadDefaultConfigFile(&text)
		c.complaint = strings.TrimSpace(strings.TrimPrefix(text.String(), "WARNING: "))
	})
	return c.config, c.complaint
}

// setSession attaches what the daemon may ask us for while it builds: registry
// credentials, secrets, ssh agents.
func (j *job) setSession() error {
	cfg, complaint := j.run.login.file()
	if complaint != "" {
		// As for docker, a broken credentials file is no reason not to build.
		j.warnings = append(j.warnings, "reading registry credentials: "+complaint)
	}
	j.session = append(j.session, authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: authprovider.LoadAuthConfig(cfg),
	}))
	if err := j.setSecrets(); err != nil {
		return err
	}
	return j.setSSH()
}

func (j *job) setSecrets() error {
	store := secretStore{}
	for _, s := range j.req.Secrets {
		if s.ID == "" {
			return inputErrorf("a secret needs an id")
		}
		if _, twice := store[s.ID]; twice {
			return inputErrorf("secret %q is given twice", s.ID)
		}
		read, err := secretReader(s)
		if err != nil {
			return err
		}
		store[s.ID] = read
	}
	if len(store) > 0 {
		j.session = append(j.session, secretsprovider.NewSecretProvider(store))
	}
	return nil
}

// secretStore reads secrets when a build step asks for them, so that a value is
// in memory only when it is needed.
type secretStore map[string]func() ([]byte, error)

// GetSecret implements secrets.SecretStore.
func (s secretStore) GetSecret(_ context.Context, id string) ([]byte, error) {
	read, ok := s[id]
	if !ok {
		return nil, fmt.Errorf("secret %q: %w", id, secrets.ErrNotFound)
	}
	return read()
}

// secretReader checks that a secret has a source that exists. Values never
// appear in errors.
func secretReader(s Secret) (func() ([]byte, error), error) {
	given := 0
	for _, is := range []bool{s.File != "", s.Env != "", s.Value != nil} {
		if is {
			given++
		}
	}
	if given > 1 {
		return nil, inputErrorf("secret %q has more than one source: give a file or an environment variable", s.ID)
	}
	if given == 0 {
		// As docker has it: the environment variable of that name, else the file.
		if _, ok := os.LookupEnv(s.ID); ok {
			s.Env = s.ID
		} else {
			s.File = s.ID
		}
	}
	switch {
	case s.Value != nil:
		if len(s.Value) > secretsprovider.MaxSecretSize {
			return nil, inputErrorf("secret %q is larger than %d bytes", s.ID, secretsprovider.MaxSecretSize)
		}
		return func() ([]byte, error) { return s.Value, nil }, nil
	case s.Env != "":
		v, ok := os.LookupEnv(s.Env)
		if !ok {
			return nil, inputErrorf("secret %q: environment variable %s is not set", s.ID, s.Env)
		}
		if len(v) > secretsprovider.MaxSecretSize {
			return nil, inputErrorf("secret %q is larger than %d bytes", s.ID, secretsprovider.MaxSecretSize)
		}
		return func() ([]byte, error) { return []byte(v), nil }, nil
	}
	fi, err := os.Stat(s.File)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, inputErrorf("secret %q: file %s does not exist", s.ID, s.File)
	case err != nil:
		return nil, inputErrorf("secret %q: %w", s.ID, err)
	case fi.IsDir():
		return nil, inputErrorf("secret %q: %s is a directory", s.ID, s.File)
	case fi.Size() > secretsprovider.MaxSecretSize:
		return nil, inputErrorf("secret %q: %s is larger than %d bytes", s.ID, s.File, secretsprovider.MaxSecretSize)
	}
	return func() ([]byte, error) { return os.ReadFile(s.File) }, nil
}

func (j *job) setSSH() error {
	var agents []sshprovider.AgentConfig
	given := map[string]bool{}
	for _, a := range j.req.SSH {
		if a.ID == "" {
			a.ID = sshforward.DefaultID
		}
		if given[a.ID] {
			return inputErrorf("ssh agent %q is given twice", a.ID)
		}
		given[a.ID] = true
		if len(a.Paths) == 0 && os.Getenv("SSH_AUTH_SOCK") == "" {
			return inputErrorf("ssh agent %q: SSH_AUTH_SOCK is not set: start an agent, or name a key file", a.ID)
		}
		for _, path := range a.Paths {
			if err := checkKey(path); err != nil {
				return inputErrorf("ssh agent %q: %w", a.ID, err)
			}
		}
		agents = append(agents, sshprovider.AgentConfig{ID: a.ID, Paths: a.Paths})
	}
	if len(agents) == 0 {
		return nil
	}
	p, err := sshprovider.NewSSHAgentProvider(agents)
	if err != nil {
		return inputErrorf("ssh: %w", err)
	}
	j.session = append(j.session, p)
	return nil
}

// checkKey says what is wrong with a private key; sockets of agents are let pass.
func checkKey(path string) error {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case err != nil:
		return err
	case fi.IsDir():
		return fmt.Errorf("%s is a directory: name a private key or the socket of an agent", path)
	case !fi.Mode().IsRegular():
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = ssh.ParseRawPrivateKey(text)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return fmt.Errorf("%s is protected by a passphrase: add it to an agent (ssh-add %s) and give that", path, path)
	case err != nil:
		return fmt.Errorf("%s is not a private key: %w", path, err)
	}
	return nil
}
