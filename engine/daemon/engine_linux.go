package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/cache/remotecache/azblob"
	"github.com/moby/buildkit/cache/remotecache/inline"
	"github.com/moby/buildkit/cache/remotecache/local"
	"github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/cache/remotecache/s3"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	dockerfileversion "github.com/moby/buildkit/frontend/dockerfile/version"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/grpcerrors"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto" // the codec BuildKit's messages need
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/buildkit/version"
	"github.com/moby/buildkit/worker"
	bolt "go.etcd.io/bbolt"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
)

// maxMessage is the size of gRPC messages that BuildKit's clients and servers
// agree on.
const maxMessage = 16 << 20

// stopGrace is how long running builds may go on after the daemon was told to
// leave; then they are cancelled.
const stopGrace = 10 * time.Second

// engine is one BuildKit: a worker, a controller and the server in front.
type engine struct {
	worker     worker.Worker
	controller *control.Controller
	server     *grpc.Server
	leaving    context.CancelFunc // tells history and builds that we are about to go
	gc         []client.PruneInfo
	unsynced   *unsynced

	snapshotter string
	warnings    []string
}

// newEngine wires up BuildKit with its state in the slot, which the caller
// must have locked: BuildKit would otherwise wait for its databases for ever.
// All unary calls go through intercept if it is not nil.
func newEngine(ctx context.Context, s slot, set settings, runcPath string, noProcessSandbox bool, intercept grpc.UnaryServerInterceptor) (_ *engine, err error) {
	sessions, err := session.NewManager()
	if err != nil {
		return nil, err
	}
	hosts := resolver.NewRegistryConfig(set.Registries)
	e := &engine{gc: set.GC}
	if err := e.addWorker(ctx, s, set, hosts, runcPath, noProcessSandbox); err != nil {
		return nil, fmt.Errorf("starting BuildKit: %w", err)
	}
	workers := &worker.Controller{}
	defer func() {
		if err != nil {
			workers.Close()
		}
	}()
	if err := workers.Add(e.worker); err != nil {
		return nil, err
	}
	gatewayFrontend, err := gateway.NewGatewayFrontend(workers.Infos(), nil)
	if err != nil {
		return nil, err
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(s.root(), "cache.db"))
	if err != nil {
		return nil, fmt.Errorf("opening build cache: %w", err)
	}
	// The queue wants a database although nothing is ever recorded in it.
	history, err := boltutil.SafeOpen(filepath.Join(s.root(), "history.db"), 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		return nil, fmt.Errorf("opening build history: %w", err)
	}
	graceful, leaving := context.WithCancel(context.Background())
	e.leaving = leaving
	none := int64(0)
	e.controller, err = control.NewController(control.Opt{
		SessionManager:   sessions,
		WorkerController: workers,
		Frontends: map[string]frontend.Frontend{
			"dockerfile.v0": forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build),
			"gateway.v0":    gatewayFrontend,
		},
		// BuildKit's gha is left out: it adds a third to the time in which this
		// program starts, which each call of the command line pays.
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"azblob":   azblob.ResolveCacheExporterFunc(),
			"s3":       s3.ResolveCacheExporterFunc(),
			"registry": registry.ResolveCacheExporterFunc(sessions, hosts),
			"local":    local.ResolveCacheExporterFunc(sessions),
			"inline":   inline.ResolveCacheExporterFunc(),
		},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			"azblob":   azblob.ResolveCacheImporterFunc(),
			"s3":       s3.ResolveCacheImporterFunc(),
			"registry": registry.ResolveCacheImporterFunc(sessions, e.worker.ContentStore(), hosts),
			"local":    local.ResolveCacheImporterFunc(sessions),
		},
		CacheManager: solver.NewCacheManager(ctx, "local", cache, worker.NewCacheResultStorage(workers)),
		// The daemon is its user's own: what a build may do is for the client to decide.
		Entitlements:   []string{"network.host", "security.insecure", "device"},
		MeterProvider:  sdkmetric.NewMeterProvider(), // must not be nil
		HistoryDB:      history,
		HistoryConfig:  &config.HistoryConfig{MaxEntries: &none},
		CacheStore:     cache,
		LeaseManager:   e.worker.LeaseManager(),
		ContentStore:   e.worker.ContentStore(),
		GarbageCollect: e.worker.GarbageCollect,
		GracefulStop:   graceful.Done(),
	})
	if err != nil {
		leaving()
		return nil, fmt.Errorf("starting BuildKit: %w", err)
	}
	e.server = newServer(intercept)
	e.controller.Register(e.server)
	grpc_health_v1.RegisterHealthServer(e.server, health.NewServer())
	return e, nil
}

// newServer returns a server that carries BuildKit's typed errors.
func newServer(intercept grpc.UnaryServerInterceptor) *grpc.Server {
	unary := []grpc.UnaryServerInterceptor{grpcerrors.UnaryServerInterceptor}
	if intercept != nil {
		unary = append(unary, intercept)
	}
	return grpc.NewServer(
		grpc.ChainUnaryInterceptor(unary...),
		grpc.ChainStreamInterceptor(grpcerrors.StreamServerInterceptor),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		// Builds must have let go of their mounts before the databases close.
		grpc.WaitForHandlers(true),
	)
}

// inMemory serves the engine to this process alone.
func (e *engine) inMemory(ctx context.Context) (*client.Client, error) {
	l := bufconn.Listen(1 << 20)
	go e.server.Serve(l) //nolint:errcheck // it ends when close stops the server
	return client.New(ctx, "", client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return l.DialContext(ctx)
	}), client.WithGRPCDialOption(grpc.WithIdleTimeout(0)))
}

// close lets running builds finish within the grace, cancels the rest, and
// closes BuildKit's databases.
func (e *engine) close(grace time.Duration) error {
	e.leaving()
	done := make(chan struct{})
	go func() {
		e.server.GracefulStop()
		close(done)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		// Stop cancels what runs, which also ends GracefulStop.
		go e.server.Stop()
		select {
		case <-done:
		case <-time.After(stopGrace):
			e.unsynced.close()
			return errors.Join(errors.New("builds did not end when they were cancelled"), e.controller.Close())
		}
	}
	e.unsynced.close()
	return e.controller.Close()
}

// prune applies the garbage collection rules now.
func (e *engine) prune(ctx context.Context) error {
	if len(e.gc) == 0 {
		return nil
	}
	freed := make(chan client.UsageInfo)
	done := make(chan struct{})
	go func() {
		for range freed {
		}
		close(done)
	}()
	err := e.worker.Prune(ctx, freed, e.gc...)
	close(freed)
	<-done
	return err
}

// stampVersion tells the embedded BuildKit its version, which its own releases
// get from the linker and which ends up in provenance.
func stampVersion() {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, m := range bi.Deps {
		if m.Path == version.Package {
			version.Version = m.Version
		}
	}
}

// buildkitVersion is what the engine tells about itself in provenance.
func buildkitVersion() client.BuildkitVersion {
	return client.BuildkitVersion{
		Package: version.Package, Version: version.Version, Revision: version.Revision,
		DockerfileVersion: dockerfileversion.Version(),
	}
}
