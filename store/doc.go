// Package store keeps built images on disk: an OCI image layout directory that
// any number of processes read and write at the same time, and that any tool
// that knows the layout (skopeo, crane, ORAS, BuildKit) can read.
//
// # On disk
//
//	oci-layout                 the layout's version, written once
//	index.json                 one entry a name, and one a referrer; replaced as a whole, never edited
//	blobs/<algorithm>/<hex>    manifests, configs, layers; never changed once there
//	.zlayer/index.lock         held while index.json is replaced
//	.zlayer/blobs.lock         shared: a blob is put or relied upon; exclusive: gc
//	.zlayer/sessions/<kind-*>  unfinished blobs and leases, one locked directory each
//	.zlayer/sizes/<hex>        unpacked size of a layer, worked out once
//
// Every name in index.json is a full, normalised reference
// (docker.io/library/app:latest). It stands in io.containerd.image.name and in
// org.opencontainers.image.ref.name: a store holds many repositories, and a bare
// tag there would make "latest" mean whichever image a reader meets first.
//
// # What a crash can do
//
// A blob is written to a file of its own in a session directory, hashed on the
// way, compared with the size and digest asked for, fsynced, and only then
// renamed to the name that its digest gives. So a digest never names other bytes,
// and never half of them: the data is on disk before the name exists. index.json
// is replaced the same way, after the blob directories have been fsynced, so it
// never names a blob that a power cut took away. Killed writers leave files in
// their session directory; the next Open sees that nobody holds that directory's
// lock and removes it.
//
// # Garbage collection beside running builds
//
// A blob that is already there is not sent again, so a build relies on blobs that
// nothing may refer to yet. Relying on a blob marks it as recently used (its
// modification time), under the shared lock; GC deletes under the exclusive lock,
// and only what was last used before its grace period and before the oldest live
// [Lease] began. Import checks, under the shared lock, that all of an image is
// there before naming it: a collection can at worst make an import fail, never
// leave a name with holes behind it.
//
// The package never prints and never talks to a daemon; Push is the only thing
// that talks to the network.
package store
