"""The names of the Docker side's settings, as far as compose.yaml and its overrides do not tell."""

# What people set and `labloop up` reads itself. .env.example explains each.
SETTINGS = frozenset(
    {
        *("STACK_NAME", "COMPOSE_PROFILES", "LAB_HOST", "LAB_DOMAIN", "LAB_UID", "LAB_GID"),
        *("GATEWAY_BIND", "GATEWAY_HTTP_PORT", "GATEWAY_PORT"),
        *("GATEWAY_LABEL_PORT", "GATEWAY_FILES_PORT", "GATEWAY_BOARD_PORT"),
        *("TLS_CERTIFICATE", "TLS_KEY"),
        *("NAS_PATH", "NAS_NFS", "NAS_NFS_OPTIONS", "NAS_SMB", "NAS_SMB_CREDENTIALS"),
        *("GPU", "TORCH_CUDA", "RESTIC_IMAGE"),
        *("BACKUP_REPOSITORY", "BACKUP_ENVIRONMENT", "BACKUP_RAWDATA", "BACKUP_MEMORY"),
        *("DEEPO_MODULES", "DEEPO_CUDA", "DEEPO_CUDNN", "DEEPO_UBUNTU", "DEEPO_PYTHON"),
        *("DEEPO_COMMIT", "DEEPO_REPOSITORY", "DEEPO_GET_PIP", "DEEPO_BASE"),
        *("REGISTRY_PREFIX", "PIP_CONFIG", "CA_BUNDLE", "WHEELS", "BUILD_NETWORK"),
    }
)
# What compose.yaml asks for and `labloop up` fills in, whatever anybody has set.
DERIVED = frozenset(
    {
        *("IMAGE_TAG", "REVISION", "SECRETS_DIR", "CONFIG_DIR"),
        *("LABEL_STUDIO_ORIGINS", "NEXTCLOUD_DOMAINS"),
    }
)
