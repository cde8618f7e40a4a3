"""Every weight file that Backline can use, and the terms it comes under.

Conventions: names are ours. Licences are those that the publisher states on the day this was written; ``doubt`` says
where two of its pages contradict each other or none speaks. A hash that is not here is pinned by the first pull.
"""

from pipeline.assets.table import Asset, File, Hub, Web

NC = "CC-BY-NC-4.0"

_ALL = (
    Asset(
        "muq",
        "MuQ large, Million Song iteration",
        Hub("OpenMuQ/MuQ-large-msd-iter"),
        (File("model.safetensors"), File("config.json", format="other")),
        NC,
        commercial=False,
        about="https://huggingface.co/OpenMuQ/MuQ-large-msd-iter",
        approximate_gb=1.33,
    ),
    Asset(
        "songeval",
        "SongEval's head of five scores",
        Web("https://raw.githubusercontent.com/ASLP-lab/SongEval/f8113118221285eabcbc2882093b0956b9661446/ckpt"),
        (File("model.safetensors", git="b25155b89115f2f36bcf367c6f3446ae7d6214cb"),),
        "CC-BY-NC-SA-4.0",
        commercial=False,
        about="https://github.com/ASLP-lab/SongEval",
        doubt="its LICENSE file says Apache-2.0, its README CC BY-NC-SA 4.0: treated as non-commercial",
    ),
    Asset(
        "mucodec",
        "MuCodec: quantiser and flow-matching decoder",
        Hub("yaoxunxu/mucodec"),
        (File("ckpt/mucodec.pt", format="pickle"),),
        NC,
        commercial=False,
        about="https://huggingface.co/yaoxunxu/mucodec",
    ),
    Asset(
        "mucodec-muq",
        "MuCodec's own MuQ",
        Hub("yaoxunxu/mucodec"),
        (File("muq_dev/muq.pt", format="pickle", outer="model"),),
        NC,
        commercial=False,
        about="https://huggingface.co/yaoxunxu/mucodec",
    ),
    Asset(
        "mucodec-vae",
        "AudioLDM 48 kHz: VAE and HiFi-GAN that MuCodec decodes with",
        Hub("yaoxunxu/mucodec"),
        (File("tools/audioldm_48k.pth", format="pickle", outer="state_dict"),),
        "CC-BY-NC-SA-4.0",
        commercial=False,
        about="https://huggingface.co/haoheliu/audioldm_48k",
        doubt="AudioLDM's repository states this licence; MuCodec's copy states none of its own",
    ),
    Asset(
        "clamp3",
        "CLaMP 3: text and audio towers",
        Hub("sander-wood/clamp3"),
        (
            File(
                "weights_clamp3_saas_h_size_768_t_model_FacebookAI_xlm-roberta-base_t_length_128_a_size_768_a_layers_12"
                "_a_length_128_s_size_768_s_layers_12_p_size_64_p_length_512.pth",
                format="pickle",
                outer="model",
            ),
        ),
        "MIT",
        commercial=True,
        about="https://huggingface.co/sander-wood/clamp3",
        doubt="the weights' page states MIT; they were trained on MERT's non-commercial vectors",
        approximate_gb=2.2,
    ),
    Asset(
        "mert-95m",
        "MERT-v1-95M, what CLaMP 3 hears with",
        Hub("m-a-p/MERT-v1-95M"),
        (File("pytorch_model.bin", format="pickle"),),
        NC,
        commercial=False,
        about="https://huggingface.co/m-a-p/MERT-v1-95M",
        approximate_gb=0.38,
    ),
    Asset(
        "xlm-roberta-tokenizer",
        "XLM-RoBERTa's tokenizer, for CLaMP 3's texts",
        Hub("FacebookAI/xlm-roberta-base"),
        (File("tokenizer.json", format="other"),),
        "MIT",
        commercial=True,
        about="https://huggingface.co/FacebookAI/xlm-roberta-base",
        approximate_gb=0.01,
    ),
)
ASSETS = {asset.name: asset for asset in _ALL}
