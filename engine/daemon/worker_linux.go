package daemon

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/solver/llbsolver/cdidevices"
	"github.com/moby/buildkit/util/archutil"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/runc"
	"github.com/moby/sys/userns"
	"golang.org/x/sync/semaphore"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// addWorker makes the worker: snapshots, executor, content.
func (e *engine) addWorker(ctx context.Context, s slot, set settings, hosts docker.RegistryHosts, runcPath string, noProcessSandbox bool) error {
	factory := e.snapshots(ctx, s.root())
	var dns *oci.DNSConfig
	if set.DNS != nil {
		dns = &oci.DNSConfig{Nameservers: set.DNS.Nameservers, Options: set.DNS.Options, SearchDomains: set.DNS.SearchDomains}
	}
	var limit *semaphore.Weighted
	if set.MaxParallelism > 0 {
		limit = semaphore.NewWeighted(int64(set.MaxParallelism))
	}
	mode := oci.ProcessSandbox
	if noProcessSandbox {
		mode = oci.NoProcessSandbox
		e.warnings = append(e.warnings, "/proc is masked here, so build steps can see the processes of their surroundings")
	}
	devices, err := e.devices()
	if err != nil {
		return err
	}
	opt, err := runc.NewWorkerOpt(s.root(), factory, userns.RunningInUserNS(), mode, nil, nil,
		netproviders.Opt{Mode: "host"}, dns, runcPath, "", false, limit, "", "", devices)
	if err != nil {
		return err
	}
	opt.GCPolicy = set.GC
	opt.BuildkitVersion = buildkitVersion()
	opt.RegistryHosts = hosts
	opt.Platforms = archutil.SupportedPlatforms(false)
	w, err := base.NewWorker(ctx, opt)
	if err != nil {
		return err
	}
	e.worker, e.snapshotter = w, factory.Name
	e.unsynced = newUnsynced(s, opt.ContentMetadata, opt.MetadataStore.DB())
	return nil
}

// snapshots picks overlayfs where the kernel and the file system of root allow
// it, else full copies.
func (e *engine) snapshots(ctx context.Context, root string) runc.SnapshotterFactory {
	name := "overlayfs"
	open := func(root string) (snapshots.Snapshotter, error) {
		return overlay.NewSnapshotter(root, overlay.AsynchronousRemove)
	}
	if err := overlayutils.Supported(root); err != nil {
		e.warnings = append(e.warnings, fmt.Sprintf("overlayfs does not work in %s, so each layer is a full copy of the one below (%v): set ZLAYER_STATE_DIR to a directory on a disk or volume", root, err))
		name, open = "native", native.NewSnapshotter
	}
	return runc.SnapshotterFactory{Name: name, New: func(root string) (snapshots.Snapshotter, error) {
		if err := repairSnapshots(ctx, root); err != nil {
			return nil, err
		}
		return open(root)
	}}
}

// devices reads the host's descriptions of devices for RUN --device.
func (e *engine) devices() (*cdidevices.Manager, error) {
	var dirs []string
	for _, dir := range cdi.DefaultSpecDirs {
		if _, err := os.Stat(dir); err == nil {
			dirs = append(dirs, dir)
		}
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(len(dirs) > 0))
	if err != nil {
		return nil, fmt.Errorf("reading device descriptions: %w", err)
	}
	for path, errs := range cache.GetErrors() {
		e.warnings = append(e.warnings, fmt.Sprintf("device description %s is broken: %v", path, errs))
	}
	return cdidevices.NewManager(cache, nil), nil
}
