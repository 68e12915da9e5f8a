# The image that a line "# syntax=" names: zlayer as a frontend of BuildKit. Made by
# "make frontend-image"; the context holds a static zlayer.
FROM scratch
COPY --chmod=0755 zlayer /zlayer
LABEL moby.buildkit.frontend.network.none="true" \
      moby.buildkit.frontend.caps="moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring,moby.buildkit.frontend.contexts.zstd"
ENTRYPOINT ["/zlayer", "frontend"]
