# Builds and tests the operator, and builds the control plane that the tests use. Requires Go and make; the rest is built from Go modules.
SHELL := bash
.SHELLFLAGS := -o pipefail -ec
.DEFAULT_GOAL := help

export CGO_ENABLED := 0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
# The Kubernetes version that a go.mod of the components requires.
kubernetes_in = $(shell awk '$$1 == "k8s.io/kubernetes" {print substr($$2, 2)}' tests/controlplane/components/$(1))
KUBERNETES_VERSION := $(call kubernetes_in,go.mod)
# The older supported Kubernetes minors. Each has a file go-MINOR.mod beside go.mod.
OLDER_MINORS := $(patsubst tests/controlplane/components/go-%.mod,%,$(sort $(wildcard tests/controlplane/components/go-*.mod)))

export REQUIRE_REAL_NODE REQUIRE_PROMETHEUS

# With this tag, equal field sets in managedFields share memory. The children of similar MCPServers have equal field sets.
# All builds of the module use the same tag, so that the build cache is shared.
TAGS := fieldsv1string

# The image is labeled with its commit and uses the commit's time, so that builds of the same commit are identical.
IMAGE_PLATFORMS ?= linux/amd64,linux/arm64
REVISION ?= $(shell git describe --always --exclude='*' --abbrev=40 --dirty 2>/dev/null)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
BUILD_IMAGE = go run ./deploy/image/cmd/image -out=bin/image -platforms="$(IMAGE_PLATFORMS)" -tags=$(TAGS) \
  -version=$(VERSION) -revision=$(REVISION) -created=$(SOURCE_DATE_EPOCH)

# Limits each suite of make test. The longest, tests/node, takes about 22 minutes. A suite that hangs must end, with the stacks of its goroutines, while CI,
# which gives up after 90 minutes, still waits for it.
SUITE_TIMEOUT := 35m

STORM_SEQUENCES ?= 1000
STORM_SEED ?= 0
FAULTS_ROUNDS ?= 10
# The numbers of MCPServers of make bench, separated by commas: whose children are created, and that are present in all other measurements.
BENCH_SIZES ?= 1000,5000,10000
BENCH_PRESENT ?= 5000,10000

COMPONENTS_DIR := tests/controlplane/components
CLIENTS_DIR := tests/clients
MCP_DIR := tests/mcp
DASHBOARDS_DIR := deploy/monitoring/dashboards
SITE_DIR := .ci/site
# The Debian packages that the tests of the site require: a browser and a font.
SITE_PACKAGES := chromium fonts-dejavu-core
COMPONENTS := etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kwok metrics-server
COMPONENTS_BUILT := bin/components/.built-$(KUBERNETES_VERSION)
# The additional components of a real node. See tests/controlplane/realnode.go.
RUNTIME_DIR := tests/controlplane/runtime
KEDA_DIR := tests/keda/components
NODE_BUILT := bin/components/.node-built-$(KUBERNETES_VERSION)
# The Debian packages that a real node requires and that no Go module provides.
NODE_PACKAGES := runc nftables iproute2
# The kind of node for make run: played or real.
NODE ?= played

# The components report the version that is linked into them.
version_package = -X $(1).gitVersion=v$(KUBERNETES_VERSION) -X $(1).gitMajor=$(word 1,$(subst ., ,$(KUBERNETES_VERSION))) -X $(1).gitMinor=$(word 2,$(subst ., ,$(KUBERNETES_VERSION))) -X $(1).gitTreeState=clean
COMPONENTS_LDFLAGS = -s -w $(call version_package,k8s.io/component-base/version) $(call version_package,k8s.io/client-go/pkg/version)

build_program = go build -trimpath -tags=$(TAGS) -ldflags "-s -w -X main.version=$(VERSION)"
# The platforms of the kubectl plugin in a release.
PLUGIN_PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

# A release is a module of its own, with the libraries of Helm, kustomize, krew, CycloneDX and in-toto.
RELEASE_DIR := deploy/release
RELEASE = cd $(RELEASE_DIR) && go run ./cmd/release -root=$(CURDIR) -out=$(CURDIR)/bin/release -version="$(VERSION)" -tags=$(TAGS) \
  -image-platforms="$(IMAGE_PLATFORMS)" -plugin-platforms="$(PLUGIN_PLATFORMS)" -image-repository="$(IMAGE_REPOSITORY)" \
  -chart-registry="$(CHART_REGISTRY)" -source-url="$(SOURCE_URL)" -download-url="$(DOWNLOAD_URL)"

# Runs a benchmark, and keeps what it prints: $(call keep_results,NAME,COMMAND). A benchmark that fails leaves the last results as they are.
keep_results = mkdir -p bin/results; { printf '\# Results of the $(1)\n\n'; ($(2)); } | tee bin/results/$(1).new; mv bin/results/$(1).new bin/results/$(1).md

GO_FILES = $(shell git ls-files --cached --others --exclude-standard '*.go')

##@ Use

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: control-plane node-if-possible ## Run the steps of the README's story on a real control plane, and check each step.
	@go run -tags=$(TAGS) ./tests/demo

.PHONY: recording
recording: control-plane node-if-possible ## Run the demo, record it to docs/pictures, and draw the pictures of it.
	@go run -tags=$(TAGS) ./tests/demo -record=docs/pictures
	@$(MAKE) --no-print-directory pictures

.PHONY: pictures
pictures: ## Draw the pictures of the recorded demo again.
	@go run -tags=$(TAGS) ./tests/demo/pictures docs/pictures

.PHONY: run
run: control-plane $(if $(filter real,$(NODE)),node) ## Run the operator on a new control plane until Ctrl-C. Set NODE=real to run containers.
	@go build -tags=$(TAGS) -o bin/playground ./tests/playground
	@exec bin/playground --node=$(NODE)

.PHONY: image
image: ## Build the operator's image for IMAGE_PLATFORMS into bin/image/oci, and bin/image/docker.tar for "docker load".
	@$(BUILD_IMAGE)

.PHONY: push
push: ## Build the image and push it to IMAGE=REGISTRY/NAME:TAG with the credentials of "docker login".
	@$(BUILD_IMAGE) push "$(IMAGE)"

.PHONY: plugin
plugin: ## Build the kubectl plugin for PLUGIN_PLATFORMS into bin/plugin, with the version of the image, and its completion.
	@for platform in $(PLUGIN_PLATFORMS); do \
	  echo "bin/plugin/$${platform/\//-}"; \
	  GOOS=$${platform%/*} GOARCH=$${platform#*/} $(build_program) -o bin/plugin/$${platform/\//-}/kubectl-mcpserver$$(GOOS=$${platform%/*} go env GOEXE) ./plugin; \
	  if [ $${platform%/*} != windows ]; then cp plugin/kubectl_complete-mcpserver bin/plugin/$${platform/\//-}/; fi; \
	done

.PHONY: release
release: ## Build a release into bin/release. Requires VERSION, IMAGE_REPOSITORY, CHART_REGISTRY and SOURCE_URL: see CONTRIBUTING.md.
	@$(RELEASE) build

.PHONY: release-push
release-push: ## Push the image and the chart in bin/release, with the same variables and the credentials of "docker login".
	@$(RELEASE) push

.PHONY: deploy
deploy: ## Install the CRD, the permissions and the Deployment on the cluster of the current kubeconfig.
	kubectl apply --server-side -k deploy

##@ Develop

.PHONY: build
build: ## Build the operator, the kubectl plugin and the completion of the plugin into bin/.
	$(build_program) -o bin/mcpserver-operator .
	$(build_program) -o bin/kubectl-mcpserver ./plugin
	@cp plugin/kubectl_complete-mcpserver bin/

.PHONY: test
test: control-plane node-if-possible prometheus-if-possible ## Run all tests, with short versions of the storm and fault tests (about 70 minutes).
	go build -tags=$(TAGS) ./...
	go test -tags=$(TAGS) -count=1 -timeout=$(SUITE_TIMEOUT) -p=1 ./... # one suite at a time, because each starts a control plane
	cd $(DASHBOARDS_DIR) && go test -count=1 ./...
	cd $(RELEASE_DIR) && go test -count=1 -timeout=$(SUITE_TIMEOUT) ./...
	cd $(MCP_DIR) && go test -count=1 -timeout=$(SUITE_TIMEOUT) ./...
	cd $(CLIENTS_DIR) && go test -count=1 -timeout=$(SUITE_TIMEOUT) -p=1 ./...

.PHONY: test-long
test-long: test matrix keda-test storm faults fuzz site-test ## Run all tests, the version matrix, the tests with KEDA, the long storm, fault and fuzz tests, and those of the site (several hours).

.PHONY: matrix
matrix: control-plane $(OLDER_MINORS:%=bin/components-%/.built) ## Run tests/facts and tests/e2e on every supported Kubernetes minor.
	@for components in $(OLDER_MINORS:%=components-%) components; do \
	  echo "== $$(bin/$$components/kube-apiserver --version)"; \
	  CONTROLPLANE_ASSETS=$(CURDIR)/bin/$$components go test -tags=$(TAGS) -count=1 -timeout=$(SUITE_TIMEOUT) -p=1 ./tests/facts ./tests/e2e; \
	done

.PHONY: keda-test
keda-test: control-plane bin/keda/keda ## Build KEDA, which takes several minutes, and test MCPServers with it.
	cd $(KEDA_DIR) && go mod tidy -diff # not in make verify, because it downloads several hundred modules
	REQUIRE_KEDA=true go test -tags=$(TAGS) -count=1 -timeout=$(SUITE_TIMEOUT) ./tests/keda

.PHONY: faults
faults: control-plane ## Inject faults into operators, the control plane and the network under load. Each fault occurs FAULTS_ROUNDS times.
	@mkdir -p bin/results
	go test -tags=$(TAGS) ./tests/faults -count=1 -v -timeout=3h -faults.rounds=$(FAULTS_ROUNDS) | tee bin/results/faults.log
	@{ printf '# Results of the faults\n\n'; grep -o '| .* |$$' bin/results/faults.log | awk '!/^\| fault / || !header++ {print} header == 1 && !line++ {print "| --- | --- | --- | --- | --- | --- | --- |"}'; } > bin/results/faults.md

.PHONY: storm
storm: control-plane ## Run STORM_SEQUENCES random sequences against the models of the scale protocol and of sessions (about 45 minutes for 1,000).
	go test ./runner -count=1 -run TestStorm -timeout=120m -rapid.checks=$(STORM_SEQUENCES) -rapid.seed=$(STORM_SEED)
	go test -tags=$(TAGS) ./tests/storm -count=1 -run TestStorm -v -timeout=120m -rapid.checks=$(STORM_SEQUENCES) -rapid.seed=$(STORM_SEED)

.PHONY: bench
bench: control-plane bench-runner ## Compare the operator with a plain writer, and the runner with other bridges (about two hours). Requires an idle machine.
	go test -tags=$(TAGS) ./applyconfigs ./reconcile/... -run='^$$' -bench=.
	$(call keep_results,operator,go run -tags=$(TAGS) ./tests/bench -sizes=$(BENCH_SIZES) -present=$(BENCH_PRESENT))

.PHONY: bench-runner
bench-runner: ## Compare the runner with the HTTP of a server and with other bridges (about 6 minutes). Requires npm and an idle machine.
	$(call keep_results,runner,cd $(MCP_DIR) && go run ./bench)

.PHONY: results
results: ## Take the results of the last benchmarks and faults over to docs/results, and draw their plots.
	cp bin/results/*.md docs/results/
	@$(MAKE) --no-print-directory plots

.PHONY: plots
plots: $(SITE_DIR)/node_modules ## Draw the plots of docs/performance.md and docs/reliability.md from docs/results. Requires npm.
	cd $(SITE_DIR) && npm run --silent plots

.PHONY: fuzz
fuzz: ## Fuzz the parser of managedFields, the merge of templates, and the input of the runner for one minute each.
	go test -tags=$(TAGS) ./reconcile/ownership -run='^$$' -fuzz=FuzzFields -fuzztime=60s
	go test -tags=$(TAGS) ./applyconfigs -run='^$$' -fuzz=FuzzMerge -fuzztime=60s -fuzzminimizetime=100x
	go test ./runner/session -run='^$$' -fuzz=FuzzParse -fuzztime=60s
	go test ./runner/rpc -run='^$$' -fuzz=FuzzParse -fuzztime=60s
	go test ./runner/rpc -run='^$$' -fuzz=FuzzGet -fuzztime=60s
	go test ./runner/stream -run='^$$' -fuzz=FuzzEvents -fuzztime=60s
	go test ./runner/stream -run='^$$' -fuzz=FuzzScanner -fuzztime=60s
	go test ./runner/process -run='^$$' -fuzz=FuzzReadLine -fuzztime=60s
	go test ./runner/stream -run='^$$' -fuzz=FuzzParseEventID -fuzztime=60s
	go test ./runner/stdio -run='^$$' -fuzz=FuzzRequestOf -fuzztime=60s
	go test ./runner/rpc -run='^$$' -fuzz=FuzzResponseID -fuzztime=60s
	go test ./runner/limits -run='^$$' -fuzz=FuzzHeaders -fuzztime=60s
	go test ./runner/modern -run='^$$' -fuzz=FuzzDecode -fuzztime=60s
	go test ./runner/upstream -run='^$$' -fuzz=FuzzFraming -fuzztime=60s
	go test ./runner/upstream -run='^$$' -fuzz=FuzzEndpoint -fuzztime=60s

.PHONY: site
site: $(SITE_DIR)/node_modules ## Build the site of the pages, with a search, into bin/site. Requires npm.
	cd $(SITE_DIR) && npm run --silent build

.PHONY: site-test
site-test: site ## Open every page of the site in a headless Chromium, and check links, pictures, the search and the plots (about 2 minutes).
	cd $(SITE_DIR) && npm run --silent plots -- --check && npm test --silent

.PHONY: site-tools
site-tools: ## Install the Debian packages that the site and its tests require. Requires root.
	apt-get update -qq
	apt-get install -y --no-install-recommends $(SITE_PACKAGES) $(if $(shell command -v npm),,npm)

.PHONY: lint
lint: bin/tools/golangci-lint ## Check the code with golangci-lint, and the API types with kube-api-linter.
	bin/tools/golangci-lint run --build-tags=$(TAGS) ./...
	bin/tools/golangci-lint run --config .golangci-api.yml --build-tags=$(TAGS) ./crd/v1beta1
	cd $(COMPONENTS_DIR) && ../../../bin/tools/golangci-lint run --config ../../../.golangci.yml ./...
	cd $(RUNTIME_DIR) && ../../../bin/tools/golangci-lint run --config ../../../.golangci.yml ./...
	cd $(RELEASE_DIR) && ../../bin/tools/golangci-lint run --config ../../.golangci.yml ./...
	cd $(MCP_DIR) && ../../bin/tools/golangci-lint run --config ../../.golangci.yml ./...
	cd $(CLIENTS_DIR) && ../../bin/tools/golangci-lint run --config ../../.golangci.yml ./...
	cd $(DASHBOARDS_DIR) && ../../../bin/tools/golangci-lint run --config ../../../.golangci.yml ./...

.PHONY: generate
generate: bin/tools/crd-ref-docs ## Generate deep copies, apply configurations, the CRD, the permissions, the dashboards, their copies in the chart, its README, and docs/api.md.
	go tool controller-gen object crd applyconfiguration paths=./crd/v1beta1 output:crd:dir=deploy/crd
	go run -tags=$(TAGS) ./crd/schema < deploy/crd/toolhive.stacklok.dev_mcpservers.yaml > bin/crd.yaml
	mv bin/crd.yaml deploy/crd/toolhive.stacklok.dev_mcpservers.yaml
	go tool controller-gen rbac:roleName=mcpserver-operator paths=./reconcile/... output:rbac:dir=deploy/rbac
	cp deploy/crd/toolhive.stacklok.dev_mcpservers.yaml deploy/chart/files/crd.yaml
	cp deploy/admission/deprecated_fields.yaml deploy/admission/scale/autoscaled.yaml deploy/rbac/role.yaml deploy/rbac/user_roles.yaml deploy/rbac/metrics_reader.yaml deploy/chart/files/
	cd $(DASHBOARDS_DIR) && go run .
	mkdir -p deploy/chart/files/monitoring
	cp deploy/monitoring/prometheus_rule.yaml deploy/monitoring/operator_down_rule.yaml deploy/monitoring/service_monitor.yaml deploy/monitoring/pod_monitor.yaml $(DASHBOARDS_DIR)/*.json deploy/chart/files/monitoring/
	go run -tags=$(TAGS) ./deploy/chartdoc
	bin/tools/crd-ref-docs --log-level=ERROR --source-path=crd/v1beta1 --config=.ci/tools/api-docs/config.yaml --templates-dir=.ci/tools/api-docs --renderer=markdown --output-path=docs/api.md

.PHONY: verify
verify: ## Fail if generated files, go.mod files or formatting are out of date.
	@before="$$(git status --porcelain; git diff)"; \
	$(MAKE) --no-print-directory generate; \
	if [ "$$before" != "$$(git status --porcelain; git diff)" ]; then \
	  git --no-pager diff --stat; \
	  echo "verify: generated files were out of date and have been regenerated. Review and commit them." >&2; exit 1; \
	fi
	go mod tidy -diff
	cd $(COMPONENTS_DIR) && for mod in go*.mod; do go mod tidy -diff -modfile=$$mod; done
	cd $(RUNTIME_DIR) && go mod tidy -diff
	cd $(RELEASE_DIR) && go mod tidy -diff
	cd $(MCP_DIR) && go mod tidy -diff
	cd $(CLIENTS_DIR) && go mod tidy -diff
	cd $(DASHBOARDS_DIR) && go mod tidy -diff
	cd .ci/tools && go mod tidy -diff
	@unformatted="$$(gofmt -l $(GO_FILES))"; \
	if [ -n "$$unformatted" ]; then echo "verify: run gofmt -w on" $$unformatted >&2; exit 1; fi
	@echo "verify: generated files, go.mod files and formatting are up to date"

.PHONY: vulncheck
vulncheck: ## Check for known vulnerabilities. Requires access to vuln.go.dev.
	cd .ci/tools && go build -trimpath -o ../../bin/tools/govulncheck golang.org/x/vuln/cmd/govulncheck
	bin/tools/govulncheck ./...

.PHONY: control-plane
control-plane: $(COMPONENTS_BUILT) bin/controlplane ## Build the control plane. The first build takes several minutes.

.PHONY: node
node: $(NODE_BUILT) bin/controlplane ## Build the components of a real node.

.PHONY: node-tools
node-tools: ## Install the Debian packages that a real node and its test images require. Requires root.
	apt-get update -qq
	apt-get install -y --no-install-recommends $(NODE_PACKAGES) $(if $(shell command -v npm),,npm)

.PHONY: prometheus
prometheus: bin/prometheus/prometheus ## Unpack Prometheus and promtool from Debian's package. Requires apt.

# The package is not installed, because that would start a daemon.
bin/prometheus/prometheus:
	@rm -rf bin/prometheus && mkdir -p bin/prometheus
	@cd bin/prometheus && apt-get download -q prometheus && dpkg-deb --extract prometheus_*.deb package
	@mv bin/prometheus/package/usr/bin/prom* bin/prometheus/
	@rm -rf bin/prometheus/package bin/prometheus/*.deb

# Unpacks Prometheus if it is not there and this machine is a Debian. With REQUIRE_PROMETHEUS=true, as in CI, its tests fail otherwise.
.PHONY: prometheus-if-possible
prometheus-if-possible:
	@command -v prometheus promtool >/dev/null || ! command -v apt-get >/dev/null || $(MAKE) --no-print-directory prometheus || \
	  echo "Not testing alerts and dashboards: no Prometheus."

# Builds the components of a real node if this machine can run one. With REQUIRE_REAL_NODE=true, as in CI, it fails otherwise.
.PHONY: node-if-possible
node-if-possible: bin/controlplane
	@if why="$$(bin/controlplane --preflight 2>&1)"; then $(MAKE) --no-print-directory node; \
	elif [ "$(REQUIRE_REAL_NODE)" = true ]; then echo "$$why" >&2; exit 1; \
	else echo "Not building a real node: $$why"; fi

# Shows progress, because the build is silent for minutes otherwise: go prints each compiled package, and awk counts them.
count_packages = 2>&1 \
	  | awk '/^go: downloading/ { if (++d % 50 == 0) print "  downloaded " d " modules"; fflush(); next } \
	         /^[a-z0-9.-]+(\/[^ ]*)?$$/ { if (++n % 100 == 0) print "  compiled " n " packages"; fflush(); next } \
	         { print; fflush() }'

$(COMPONENTS_BUILT): $(COMPONENTS_DIR)/go.mod $(COMPONENTS_DIR)/go.sum $(wildcard $(COMPONENTS_DIR)/*/main.go) $(wildcard $(COMPONENTS_DIR)/internal/*/*.go)
	@echo "Building $(COMPONENTS) from Go modules. The first time this downloads them and takes several minutes."
	@mkdir -p bin/components
	@cd $(COMPONENTS_DIR) && go build -v -trimpath -ldflags "$(COMPONENTS_LDFLAGS)" -o ../../../bin/components/ \
	  $(addprefix ./,$(COMPONENTS)) $(count_packages)
	@rm -f bin/components/.built-*
	@touch $@

# Builds the components of an older minor that make matrix needs. kwok is copied: a kwok release supports several Kubernetes
# versions, and its module does not compile with the libraries of 1.35.
bin/components-%/.built: KUBERNETES_VERSION = $(call kubernetes_in,go-$*.mod)
bin/components-%/.built: $(COMPONENTS_DIR)/go-%.mod $(COMPONENTS_DIR)/go-%.sum $(COMPONENTS_BUILT)
	@echo "Building Kubernetes $(KUBERNETES_VERSION) from Go modules. The first time this takes several minutes."
	@mkdir -p $(@D)
	@cd $(COMPONENTS_DIR) && go build -modfile=go-$*.mod -v -trimpath -ldflags "$(COMPONENTS_LDFLAGS)" -o ../../../$(@D)/ \
	  $(addprefix ./,$(filter-out kwok metrics-server,$(COMPONENTS))) $(count_packages)
	@cp bin/components/kwok $(@D)/
	@$(if $(filter 1.35,$*),cp bin/components-1.36/kubectl $(@D)/)
	@touch $@

# kubectl delete 1.35 waits forever if the object is recreated at once, as the children of an MCPServer are. kubectl 1.36 has the
# fix, and its version skew policy allows 1.35 servers.
bin/components-1.35/.built: bin/components-1.36/.built

$(NODE_BUILT): $(COMPONENTS_BUILT) $(RUNTIME_DIR)/go.mod $(RUNTIME_DIR)/go.sum $(wildcard $(RUNTIME_DIR)/*/main.go)
	@echo "Building kubelet, kube-proxy, containerd, CoreDNS, the CNI plugins and Helm from Go modules. The first time this takes several minutes."
	@cd $(COMPONENTS_DIR) && go build -v -trimpath -ldflags "$(COMPONENTS_LDFLAGS)" -o ../../../bin/components/ ./kubelet ./kube-proxy $(count_packages)
	@cd $(RUNTIME_DIR) && go build -v -trimpath -ldflags "-s -w" -o ../../../bin/components/ tool ./coredns ./nodeinit ./pause $(count_packages)
	@cd $(CLIENTS_DIR) && go build -v -trimpath -ldflags "-s -w" -o ../../bin/components/helm helm.sh/helm/v4/cmd/helm $(count_packages)
	@rm -f bin/components/.node-built-*
	@touch $@

bin/keda/keda: $(KEDA_DIR)/go.mod $(KEDA_DIR)/go.sum
	@echo "Building KEDA from its Go module. The first time this downloads it and takes several minutes."
	@mkdir -p bin/keda
	@cd $(KEDA_DIR) && go build -v -trimpath -ldflags "-s -w" -o ../../../bin/keda/keda-adapter github.com/kedacore/keda/v2/cmd/adapter $(count_packages)
	@cd $(KEDA_DIR) && go build -v -trimpath -ldflags "-s -w" -o ../../../bin/keda/keda github.com/kedacore/keda/v2/cmd/operator $(count_packages)
	@touch $@

bin/controlplane: $(wildcard tests/controlplane/*.go tests/controlplane/*/*.go tests/controlplane/cmd/controlplane/*.go) go.mod go.sum
	@go build -tags=$(TAGS) -o $@ ./tests/controlplane/cmd/controlplane

# This is golangci-lint with the plugin kube-api-linter compiled in.
bin/tools/golangci-lint: .ci/tools/go.mod .ci/tools/go.sum
	@echo "Building golangci-lint. The first time this takes several minutes."
	@mkdir -p bin/tools
	@cd .ci/tools && go build -trimpath -ldflags "-s -w" -o ../../$@ sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter
	@touch $@

bin/tools/crd-ref-docs: .ci/tools/go.mod .ci/tools/go.sum
	@mkdir -p bin/tools
	@cd .ci/tools && go build -trimpath -ldflags "-s -w" -o ../../$@ github.com/elastic/crd-ref-docs
	@touch $@

# npm runs no scripts of the packages. The touch makes the folder newer than the lock file.
$(SITE_DIR)/node_modules: $(SITE_DIR)/package-lock.json
	cd $(SITE_DIR) && npm ci --no-audit --no-fund --ignore-scripts
	@touch $@

.PHONY: clean
clean: ## Remove all build output.
	rm -rf bin $(SITE_DIR)/node_modules
