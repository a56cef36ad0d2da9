# Caddy as compose.scaled.yaml runs it: by a user that is not root, without any capability. A copy of the program has no file
# capability; with one, Linux would not start it where that capability may not be had.
#
# Not before 2.11.4: older ones answer 502 to a request with a body whose first server takes no connection, instead of
# asking the other.
FROM caddy:2.11.4-alpine
RUN cp /usr/bin/caddy /usr/bin/caddy.plain && mv /usr/bin/caddy.plain /usr/bin/caddy \
    && chown -R 1000:1000 /data /config
USER 1000:1000
EXPOSE 8080 8443
