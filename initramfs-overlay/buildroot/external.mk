include $(sort $(wildcard $(BR2_EXTERNAL_FINALSTAGE_PATH)/package/*/*.mk))
