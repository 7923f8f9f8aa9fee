# Thin on purpose: each target says which program does the work.

PYTHON := .venv/bin/python

.PHONY: help setup dist lint guests check bench demo clean

help:
	@echo 'make demo   boot a guest with ext4 on LVM on LUKS on RAID1, close it, look for its key'
	@echo 'make check  lint, types, all tests'
	@echo 'make bench  how fast it is, beside systemd-shutdown, dracut and an oracle; 45 minutes'
	@echo 'make dist   build dist/tree, dist/finalstage-tree.cpio.zst, .tar.xz, and dist/finalstage'
	@echo 'make setup  install what is missing (apt) and make .venv'
	@echo 'make lint   ruff and mypy alone'
	@echo 'make clean  remove all that was built'

setup:
	@bash .ci/setup

dist: setup
	@$(PYTHON) -m cffi_build.dist

lint: setup
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

check:
	@$(MAKE) --no-print-directory -j3 dist lint guests
	$(PYTHON) -m pytest -n 6

guests: setup
	@$(PYTHON) -m tests.vm.prepare

bench: dist
	@$(PYTHON) -m tests.bench

demo: dist
	@$(PYTHON) -m tests.vm.demo

clean:
	rm -rf dist .build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f finalstage/kernel/_linux.*
