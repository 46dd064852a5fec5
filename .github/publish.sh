#!/usr/bin/env bash
# publish.sh place BOOK NAME | remove NAME: changes the branch gh-pages as site.py says and pushes it.
# REMOTE is where it is pushed to; in a workflow this repository, with TOKEN.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
action=$1
book=${3:+$(cd "$2" && pwd)}
name=${3:-$2}
remote=${REMOTE:-https://x-access-token:${TOKEN:?}@github.com/${GITHUB_REPOSITORY:?}.git}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT

git init -q "$site"
cd "$site"
git config user.name "github-actions[bot]"
git config user.email "41898282+github-actions[bot]@users.noreply.github.com"
git symbolic-ref HEAD refs/heads/gh-pages
# Another run may push between the two: then its site is the one to change.
for _ in 1 2 3 4 5; do
    if git fetch -q --depth 1 "$remote" gh-pages; then
        git reset -q --hard FETCH_HEAD
    fi
    python3 "$here/site.py" "$action" ${book:+"$book"} . "$name"
    git add -A
    if git diff --cached --quiet; then
        echo "Nothing has changed."
        exit
    fi
    git commit -q -m "$action $name"
    if git push -q "$remote" gh-pages; then
        exit
    fi
done
exit 1
