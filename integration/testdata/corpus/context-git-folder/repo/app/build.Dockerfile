FROM busybox
COPY . /src
RUN find /src > /list && test -f /src/f
