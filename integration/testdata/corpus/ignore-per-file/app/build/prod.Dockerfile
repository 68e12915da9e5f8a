FROM busybox
COPY . /all
RUN test -f /all/a.txt && test ! -e /all/b.txt && find /all | sort > /list
