# Waggle's own image: the daemon and nothing else. It was parsed and checked by a test, never built or run (no engine
# was at hand): see test/project/docker.test.ts and README, "In Docker".
#
#     docker build -t waggle .
#
# Debian, not Alpine: the application and waggle should use the same libc's locks and the same SQLite builds that the
# tests ran with. The Node version is the one that the project tests with (package.json, devDependencies.node).
ARG NODE_IMAGE=node:24.21.0-bookworm-slim

# --- TypeScript → JavaScript ---------------------------------------------------------------------------------------
FROM ${NODE_IMAGE} AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
# No install scripts: better-sqlite3 ships its binaries, and the image brings Node itself.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY connectors ./connectors
RUN npm run build

# --- what runs needs, and no more ----------------------------------------------------------------------------------
FROM ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Beside the dependencies of development, the sources of SQLite and the binaries for other systems stay behind.
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force \
  && rm -rf node_modules/better-sqlite3/deps node_modules/better-sqlite3/src \
  && find node_modules/better-sqlite3/prebuilds -name '*.node' ! -name 'linux-*' -delete

FROM ${NODE_IMAGE}
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /build/dist ./dist
COPY package.json LICENSE ./
COPY schemas ./schemas
# The state directory itself is made by whoever runs the container, with mode 0700, below this one: so the container
# can run as the application's user, whatever its number, and a new volume takes this directory's rights.
RUN ln -s /app/dist/src/cli/waggle.js /usr/local/bin/waggle && chmod +x dist/src/cli/waggle.js \
  && mkdir -p /var/lib/waggle && chmod 1777 /var/lib/waggle
# uid 1000. Override it with the user of the application (compose: `user:`), who owns the hive.
USER node
ENTRYPOINT ["waggle"]
CMD ["run", "-c", "/etc/waggle/waggle.yaml"]
STOPSIGNAL SIGTERM
