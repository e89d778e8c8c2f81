//! `RegisterImage`.

use aws_sdk_ec2::operation::register_image::builders::RegisterImageFluentBuilder;
use aws_sdk_ec2::types::{
    ArchitectureValues, BootModeValues, ImdsSupportValues, ResourceType, TpmSupportValues,
};

use super::api::{Api, clipped, tag_at_creation};
use super::explain::{Trouble, explain, id_in};
use crate::cloud::ImageSpec;

impl Api {
    /// Registers an image on a completed snapshot; its id. Has no client token, but the name is unique. The
    /// snapshot, complete a moment ago, may not be known yet to whoever answers.
    pub(super) async fn register_image(&self, snapshot: &str, spec: &ImageSpec) -> Result<String, Trouble> {
        let sent = self.registration(snapshot, spec).send().await;
        match sent.map_err(|error| explain("ec2:RegisterImage", &self.region, error)) {
            Ok(answer) => id_in("ec2:RegisterImage", &self.region, answer.image_id()),
            Err(trouble) => Err(trouble.unseen()),
        }
    }

    /// Whether [`Self::register_image`] would be allowed; nothing is made.
    pub(super) async fn may_register_image(&self, snapshot: &str, spec: &ImageSpec) -> Result<(), Trouble> {
        let sent = self.registration(snapshot, spec).dry_run(true).send().await;
        match sent.map_err(|error| explain("ec2:RegisterImage", &self.region, error)) {
            // EC2's way to say that it would have done it.
            Err(trouble) if trouble.is(&["DryRunOperation"]) => Ok(()),
            other => other.map(drop).map_err(Trouble::unseen),
        }
    }

    fn registration(&self, snapshot: &str, spec: &ImageSpec) -> RegisterImageFluentBuilder {
        let shape = &spec.shape;
        self.ec2
            .register_image()
            .name(&spec.name)
            .description(clipped(&spec.description))
            .architecture(ArchitectureValues::from(spec.arch.as_str()))
            .virtualization_type("hvm")
            .root_device_name(&shape.root_device_name)
            .set_block_device_mappings(Some(shape.mappings(snapshot)))
            .set_ena_support(shape.ena_support)
            .set_sriov_net_support(shape.sriov_net_support.clone())
            .set_boot_mode(shape.boot_mode.as_deref().map(BootModeValues::from))
            .set_tpm_support(shape.tpm_support.as_deref().map(TpmSupportValues::from))
            .set_imds_support(shape.imds_support.as_deref().map(ImdsSupportValues::from))
            .set_uefi_data(shape.uefi_data.clone())
            .set_tag_specifications(tag_at_creation(ResourceType::Image, &spec.tags).map(|tags| vec![tags]))
    }
}
