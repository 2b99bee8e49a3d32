"""Install: models fetched from the web, from a hub, from the starter list or from this disk into autoimport/.

    sources    what a text means: a path, an address, a repository, a starter
    requests   what a dropped .url, .webloc, .txt or .toml asks for
    web        HTTP: redirects, tokens, refused addresses
    download   one file, with resume, retries and checks
    choose     which files of a repository are the model
    hub        a repository's list of files
    civitai    what a page of civitai.com shows
    starters   configs/INITIAL_MODELS.yaml
    staging    unfinished downloads, and how a finished one appears
    local      files and folders of this machine
    fetch      the story: from a source to files below autoimport/

Called by `models install` and by the downloader. What arrives is a drop like any other: nothing is registered here.
"""
