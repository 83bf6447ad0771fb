# backfill: a PostgreSQL extension, built with PGXS.
#
#   make, make install      build and install for the server of PG_CONFIG
#   make installcheck       regression tests against a running server that has
#                           backfill in shared_preload_libraries
#   make test               every test, on throw-away clusters
#   make test-matrix        the quick tests on every version of PostgreSQL
#   make console            the program of console/, which the extension never needs;
#                           make install builds and installs it where its libraries are
#   make test-console       its tests, on throw-away clusters
#   make demo-console       a cluster with a long run, and the console, until interrupted
#   make demo               the product in two minutes, in a throw-away cluster
#   make bench              figures, as ratios of paired runs
#   make house              figures of the sources: sizes, circles, what is exported
#   make dist               the archive for PGXN
#
# test, demo and bench install the packages they miss, build in a temporary
# directory and remove it; they touch no existing cluster and no installation.

# Only the named server's files tell where things are; before they are there,
# this file must still parse, so that `make test` can install them.
ifndef PG_CONFIG
PG_CONFIG := $(shell command -v pg_config 2>/dev/null || \
	ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -V | tail -n 1)
endif
ifneq ($(PG_CONFIG),)
PGXS := $(shell '$(PG_CONFIG)' --pgxs 2>/dev/null)
endif

MODULE_big = backfill
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
EXTENSION = backfill
DATA = $(wildcard sql/backfill--*.sql)
# What the library expects of its SQL objects.
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" backfill.control)

REGRESS = $(sort $(filter-out backfill--%,$(patsubst sql/%.sql,%,$(wildcard sql/*.sql))))
REGRESS_OPTS = --load-extension=backfill
# pg_regress can be told where the expected files stand since 16 only.
ISOLATION = $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --load-extension=backfill --inputdir=test \
	$(if $(filter-out 15,$(MAJORVERSION)),--expecteddir=test)

# Headers a source includes: -MMD writes them beside the object, read back below.
PG_CPPFLAGS = -Isrc -MMD -MP -DBACKFILL_VERSION='"$(EXTVERSION)"'
# Nothing leaves the library but what is marked PGDLLEXPORT: see src/base/compat.h.
# From 16 on PGXS says so itself.  19 is C11 or later by itself, and its headers
# fit the standard it was built to.
PG_CFLAGS = $(if $(filter 15 16 17 18,$(MAJORVERSION)),-std=gnu11) -fvisibility=hidden \
	-Wall -Wextra -Werror -Wshadow=compatible-local -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers
ifeq ($(NEGATIVE_CONTROL),1)
# A build that is wrong on purpose: the exactly-once tests must fail on it.
PG_CPPFLAGS += -DBACKFILL_NEGATIVE_CONTROL
endif
EXTRA_CLEAN = src/*.d src/*/*.d backfill-*.zip

# No bitcode for the JIT: nothing here is worth inlining, and it needs clang.
override with_llvm := no

ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
-include $(wildcard src/*.d src/*/*.d)
# Objects depend on the flags, too.
$(OBJS): Makefile backfill.control
else
.PHONY: all install installcheck clean
all install installcheck:
	@echo "The server's development files are missing$(if $(PG_CONFIG), for $(PG_CONFIG))." >&2
	@scripts/lib.sh missing build >&2
	@exit 1
clean:
	rm -f backfill.so src/*.o src/*/*.o $(EXTRA_CLEAN)
endif

.PHONY: test test-matrix test-console console console-install console-clean demo demo-console bench house dist
test:
	@PG_CONFIG='$(PG_CONFIG)' test/run.sh
test-matrix:
	@PG_CONFIG='$(PG_CONFIG)' scripts/matrix.sh
test-console:
	@PG_CONFIG='$(PG_CONFIG)' TESTS=console test/run.sh
demo:
	@PG_CONFIG='$(PG_CONFIG)' demo/demo.sh
demo-console:
	@PG_CONFIG='$(PG_CONFIG)' demo/console.sh
bench:
	@PG_CONFIG='$(PG_CONFIG)' bench/run.sh

# A program of its own, since PGXS builds one thing only.  It is installed with the
# extension where its libraries are, and is no reason to fail where they are not.
ifneq ($(wildcard console/Makefile),)
CONSOLE_ROOM := $(shell printf '#include <microhttpd.h>\n\#include <libpq-fe.h>\n' | \
	$(or $(CC),cc) -I"$$('$(PG_CONFIG)' --includedir 2>/dev/null)" -E -x c - >/dev/null 2>&1 && \
	[ -f /usr/share/javascript/dygraphs/dygraph.min.js ] && echo yes)
console:
	@$(MAKE) -C console PG_CONFIG='$(PG_CONFIG)'
console-install:
	@$(MAKE) -C console install PG_CONFIG='$(PG_CONFIG)' DESTDIR='$(DESTDIR)'
console-clean:
	@$(MAKE) -s -C console clean
ifeq ($(CONSOLE_ROOM),yes)
install: console-install
endif
clean: console-clean
endif

# With a library that is there already: nothing is built for it.
house:
	@scripts/house.pl measure $(addprefix --library ,$(wildcard backfill$(DLSUFFIX)))

DISTVERSION = $(shell sed -n 's/^   "version": "\(.*\)",/\1/p' META.json)
dist:
	git archive --format=zip --prefix=backfill-$(DISTVERSION)/ \
		-o backfill-$(DISTVERSION).zip HEAD
