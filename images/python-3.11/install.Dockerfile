# The image that installs packages: the runtime's own, and pip. Programs never run in it.
ARG EXECBOX_BASE
FROM ${EXECBOX_BASE}
ARG EXECBOX_DEBIAN_MIRROR
COPY .execbox execbox-ca.crt /tmp/.execbox/
RUN sh /tmp/.execbox/apt-install python3-pip \
    && sh /tmp/.execbox/seal
