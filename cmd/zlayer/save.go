package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/platforms"
	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/store"
)

func newSave(a *app) *cobra.Command {
	var output, format, platform string
	cmd := &cobra.Command{
		Use:   "save [flags] IMAGE...",
		Short: "Write images from the store to an archive",
		Long: `Write images from the store to an archive: a tar of an OCI image layout, or with
--format docker one that "docker load" of any age reads. The same images give the
same bytes.`,
		Example: "  zlayer save -o app.tar app\n  zlayer save --format docker app | docker load",
		Args:    atLeastOne("IMAGE"),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` (default standard output)")
	cmd.Flags().StringVar(&format, "format", "oci", "write `FORMAT`: oci or docker")
	cmd.Flags().StringVar(&platform, "platform", "", "save only the image for `PLATFORM`; without it all, in docker's format the host's")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o := store.SaveOptions{Format: store.Format(format)}
		if o.Format != store.FormatOCI && o.Format != store.FormatDocker {
			return usage(fmt.Errorf("--format %q: use oci or docker", format))
		}
		if platform != "" {
			p, err := platforms.Parse(platform)
			if err != nil {
				return usage(fmt.Errorf("--platform %q is not a platform: write OS/ARCH[/VARIANT]", platform))
			}
			o.Platform = &p
		}
		toStdout := output == "" || output == "-"
		if toStdout && isTerminal(a.stdout) {
			return usage(errors.New("an archive is not written to a terminal: redirect standard output or add -o FILE"))
		}
		return a.withStore(cmd.Context(), func(s *store.Store) error {
			save := func(w io.Writer) error { return s.Save(cmd.Context(), w, args, o) }
			if toStdout {
				return save(stdoutWriter{a.stdout})
			}
			return replaceFile(output, save)
		})
	}
	return storeCommand(cmd)
}

// stdoutWriter marks errors as those of standard output.
type stdoutWriter struct{ w io.Writer }

func (s stdoutWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		err = &stdoutError{err}
	}
	return n, err
}

// replaceFile has f write a file that takes the place of path when it is
// complete. What is not a regular file, such as a pipe, is written to.
func replaceFile(path string, f func(io.Writer) error) (err error) {
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(f(file), file.Close())
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = f(tmp)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
